"""The log-Mel Conformer as ONNX, from waveforms to all hidden states, for any batch and length."""

import logging
from contextlib import contextmanager
from pathlib import Path

import torch

from fairseq_birq.errors import UserError
from fairseq_birq.tools.export.safetensors import check_is_log_mel_conformer
from fairseq_birq.tools.export.traceable import TraceableEncoder

OPSET = 18


def write_onnx(encoder, cfg, out, checkpoint=None) -> None:
    """`model.onnx` in the folder `out`: what `TraceableEncoder` computes, with its inputs and outputs.

    waveform (B, S) float32 and padding_mask (B, S) bool -> hidden_states (1 + K, B, T, d) float32 and
    frame_padding_mask (B, T) bool.

    encoder: `SpeechEncoder`; cfg: the checkpoint's model settings; checkpoint: not looked at.

    Raises:
        UserError: the encoder is no log-Mel Conformer, or onnx and onnxscript are missing.
    """
    check_is_log_mel_conformer(cfg)
    require_onnx()
    rate = encoder.frontend.sample_rate
    waveform, padding_mask = torch.randn(2, rate), torch.zeros(2, rate, dtype=torch.bool)
    padding_mask[1, rate // 2 :] = True
    sizes = {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("samples", min=1)}
    with quiet():
        torch.onnx.export(
            TraceableEncoder(encoder).eval(),
            (waveform, padding_mask),
            str(Path(out) / "model.onnx"),
            input_names=["waveform", "padding_mask"],
            output_names=["hidden_states", "frame_padding_mask"],
            dynamic_shapes={"waveform": sizes, "padding_mask": sizes},
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def require_onnx() -> None:
    """Raises UserError where onnx or onnxscript is missing."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"this export needs the package {error.name}: pip install 'fairseq_birq[export]'") from None


@contextmanager
def quiet():
    """Without the exporter's thousands of lines, of which fairseq's logging shows every one."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
