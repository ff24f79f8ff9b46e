"""birq-subwords DATA --size N: SentencePiece's units of the training transcripts, for CTC fine-tuning and decoding."""

import argparse
import sys

from fairseq_birq.cli import says_what_is_wrong
from fairseq_birq.tools.subwords import make_subwords


@says_what_is_wrong
def main(argv=None) -> int:
    print("\n".join(make_subwords(**vars(parser().parse_args(argv)))))
    return 0


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("birq-subwords", description=__doc__)
    parser.add_argument("data", help="folder with <split>.wrd or <split>.ltr, which `birq-manifest` wrote; all files go there")
    units = parser.add_mutually_exclusive_group(required=True)
    units.add_argument("--size", type=int, help="units of a new model: a few hundred to a few thousand")
    units.add_argument("--model", help="SPM.model, made before: its units for another folder, or for new splits of this one")
    parser.add_argument("--name", default="spm", help="suffix of the files, and `task.labels` of training (spm)")
    parser.add_argument("--train", default="train", help="split whose transcripts the units are made from (train)")
    parser.add_argument("--words", nargs="+", default=[], metavar="FILE", help="text whose words the lexicon gets, too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
