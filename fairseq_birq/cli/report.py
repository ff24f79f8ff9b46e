"""birq-report RUN_DIR: one HTML page about a pre-training or fine-tuning run."""

import argparse
import sys

from fairseq_birq.cli import says_what_is_wrong
from fairseq_birq.tools.report.page import write


@says_what_is_wrong
def main(argv=None) -> int:
    out = write(**vars(parser().parse_args(argv)))
    print(out)
    return 0


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("birq-report", description="One HTML page about a run, which needs no network")
    parser.add_argument("run_dir", metavar="RUN_DIR", help="checkpoint.save_dir of the run")
    parser.add_argument("--out", help="the page (RUN_DIR/report.html)")
    parser.add_argument("--log", help="the run's log, where it is not in RUN_DIR")
    help_ = "logs of other runs to draw in grey, instead of ours on Mboshi"
    parser.add_argument("--reference", dest="references", nargs="+", default=(), metavar="LOG", help=help_)
    parser.add_argument("--manifest", help="FOLDER/<split>.tsv: measure the labels of its audio, and draw an utterance")
    parser.add_argument("--alignment", help="phones of the manifest: a table, a .ctm, or a folder of TextGrids")
    parser.add_argument("--tier", default="phones", help="of the TextGrids")
    parser.add_argument("--minutes", type=float, default=20.0, help="of the manifest's audio at most (20)")
    parser.add_argument("--row", type=int, default=0, help="of the manifest: the utterance to draw, from 0")
    parser.add_argument("--probes", metavar="FILE", help="results.json of birq-probe")
    parser.add_argument("--generate", metavar="LOG", help="what fairseq-generate printed: sample decodings")
    parser.add_argument("--samples", type=int, default=8, help="decodings to show (8)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
