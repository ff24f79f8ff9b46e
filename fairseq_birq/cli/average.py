"""birq-average OUT CHECKPOINT...: the mean of several checkpoints of one run."""

import argparse
import sys

from fairseq_birq.cli import says_what_is_wrong
from fairseq_birq.tools.average import average


@says_what_is_wrong
def main(argv=None) -> int:
    arguments = parser().parse_args(argv)
    print("\n".join(average(arguments.checkpoints, arguments.out)))
    return 0


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("birq-average", description="One checkpoint with the mean weights of several")
    parser.add_argument("out", help="checkpoint to write, as averaged.pt")
    parser.add_argument("checkpoints", nargs="+", help="two or more of one run, as checkpoint_1_*.pt")
    return parser


if __name__ == "__main__":
    sys.exit(main())
