"""birq-export CHECKPOINT OUT --to FORMAT: the encoder or recogniser of a checkpoint for others to load."""

import argparse
import sys

from fairseq_birq.cli import says_what_is_wrong
from fairseq_birq.errors import UserError
from fairseq_birq.tools.export import EXPORTS
from fairseq_birq.tools.export.folder import export
from fairseq_birq.tools.export.onnx_stream import CHUNK_MS, LEFT_CHUNKS


@says_what_is_wrong
def main(argv=None) -> int:
    arguments = parser().parse_args(argv)
    card = {name: getattr(arguments, name) for name in ("data", "licence") if getattr(arguments, name)}
    if card and arguments.to != "huggingface":
        raise UserError(f"--{' and --'.join(card)} is for the model card, which only `--to huggingface` writes")
    chunks = {name: getattr(arguments, name) for name in ("chunk_ms", "left_chunks") if getattr(arguments, name) is not None}
    if chunks and arguments.to != "onnx-stream":
        names = " and ".join(f"--{name.replace('_', '-')}" for name in chunks)
        raise UserError(f"{names}: only `--to onnx-stream` has chunks")
    files = export(arguments.checkpoint, arguments.out, arguments.to, **card, **chunks)
    print(f"{arguments.out}: {', '.join(files)}")
    return 0


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("birq-export", description="The speech encoder of a checkpoint for other libraries")
    parser.add_argument("checkpoint", help="of model birq or birq_ctc, a run of fairseq2, or a folder of `--to huggingface`")
    parser.add_argument("out", help="folder to make; it must not be there yet")
    parser.add_argument(
        "--to",
        required=True,
        choices=sorted(EXPORTS),
        help="huggingface: for AutoModel (log-Mel Conformer with its code, waveform Transformer as a HubertModel), of a "
        "fine-tuned checkpoint also for AutoModelForCTC and pipeline; onnx, onnx-stream (one step of a stream), s3prl (an "
        "upstream), safetensors with a loader (log-Mel Conformer); what these write needs no fairseq. fairseq2, fairseq: the "
        "whole model as that side's checkpoint",
    )
    parser.add_argument("--data", help="of the model card: which speech was trained on, whose and how much")
    parser.add_argument("--licence", help="of the model card: the weights' licence, by Hugging Face's name, as cc-by-4.0")
    parser.add_argument("--chunk-ms", type=float, help=f"of onnx-stream: length of a chunk ({CHUNK_MS:g})")
    parser.add_argument(
        "--left-chunks", type=int, help=f"of onnx-stream: chunks before its own that a frame sees ({LEFT_CHUNKS})"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
