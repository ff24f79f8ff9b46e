"""birq-export CHECKPOINT OUT --to FORMAT: the encoder of a checkpoint for others to load."""

import argparse
import sys

from fairseq_birq.cli import says_what_is_wrong
from fairseq_birq.tools.export import EXPORTS
from fairseq_birq.tools.export.folder import export


@says_what_is_wrong
def main(argv=None) -> int:
    arguments = parser().parse_args(argv)
    files = export(arguments.checkpoint, arguments.out, arguments.to)
    print(f"{arguments.out}: {', '.join(files)}")
    return 0


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("birq-export", description="The speech encoder of a checkpoint for other libraries")
    parser.add_argument("checkpoint", help="of model birq or birq_ctc")
    parser.add_argument("out", help="folder to make; it must not be there yet")
    parser.add_argument(
        "--to",
        required=True,
        choices=sorted(EXPORTS),
        help="huggingface: a HubertModel (waveform Transformer); onnx, s3prl (an upstream), safetensors with a "
        "loader (log-Mel Conformer); what they write needs no fairseq",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
