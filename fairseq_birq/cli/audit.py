"""birq-audit MANIFEST: what labels a corpus would get, before training: normalisations and seeds beside each other."""

import argparse
import sys

from fairseq_birq.cli import says_what_is_wrong
from fairseq_birq.tools.audit.audit import audit
from fairseq_birq.tools.audit.fitted import KINDS
from fairseq_birq.tools.audit.tables import write


@says_what_is_wrong
def main(argv=None) -> int:
    options = vars(parser().parse_intermixed_args(argv))
    out = options.pop("out")
    lines = write(audit(**options), out)
    print("\n".join([*lines, "", f"{out}: audit.md, audit.json, audit.png"]))
    return 0


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("birq-audit", description="Codes of a corpus, measured before training on them")
    parser.add_argument("manifest", help="FOLDER/<split>.tsv")
    example = "of a recipe, as model.quantizer.codebook_size=256 or model.frontend.num_mels=40"
    parser.add_argument("settings", nargs="*", metavar="SETTING", help=example)
    parser.add_argument("--alignment", help="phones: a table (utt_index, start_s, end_s, phone), .ctm, or folder of TextGrids")
    parser.add_argument("--tier", default="phones", help="of the TextGrids")
    parser.add_argument("--checkpoint", help="of model birq or birq_ctc: audit its layers instead of the raw input")
    parser.add_argument("--layers", type=int, nargs="+", default=(), help="counted from 1, 0 = what enters the first; all")
    parser.add_argument("--seeds", type=int, nargs="+", default=(1, 2, 3), help="of the quantizers")
    parser.add_argument("--minutes", type=float, default=60.0, help="of audio at most, spread evenly over the manifest")
    parser.add_argument("--fitted", choices=KINDS, nargs="+", default=(), help="codes that are fitted to the corpus, too")
    parser.add_argument("--out", default="audit", help="folder for audit.md, audit.json and audit.png")
    return parser


if __name__ == "__main__":
    sys.exit(main())
