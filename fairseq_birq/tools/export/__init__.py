"""Exports: a checkpoint's speech encoder for others to load. The registry's key is `birq-export --to`."""

from fairseq_birq.tools.export.fairseqs import write_fairseq, write_fairseq2
from fairseq_birq.tools.export.huggingface import write_huggingface
from fairseq_birq.tools.export.onnx import write_onnx
from fairseq_birq.tools.export.onnx_stream import write_onnx_stream
from fairseq_birq.tools.export.s3prl import write_s3prl
from fairseq_birq.tools.export.safetensors import write_safetensors

EXPORTS = {
    "fairseq": write_fairseq,
    "fairseq2": write_fairseq2,
    "huggingface": write_huggingface,
    "onnx": write_onnx,
    "onnx-stream": write_onnx_stream,
    "s3prl": write_s3prl,
    "safetensors": write_safetensors,
}
