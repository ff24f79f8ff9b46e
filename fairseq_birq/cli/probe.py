"""birq-probe TASK CHECKPOINT... DATA: what frozen encoders know, SUPERB-style."""

import argparse
import sys

from fairseq_birq.cli import says_what_is_wrong
from fairseq_birq.tools.probes import PROBES
from fairseq_birq.tools.probes.runner import Options, run


@says_what_is_wrong
def main(argv=None) -> int:
    given = vars(parser().parse_args(argv))
    changes = {key: given.pop(key) for key in ("updates", "lr", "batch_size", "size") if key in given}
    call = {key: given.pop(key) for key in ("task", "checkpoints", "data", "out", "untrained")}
    suffixes = dict(given.pop("labels"))
    lines = run(**call, options=Options(changes=changes, suffixes=suffixes, **given))
    print("\n".join(lines))
    return 0


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("birq-probe", description="Probes of frozen encoders: layer-weighted sum and a small head")
    parser.add_argument("task", choices=[*PROBES, "all"], help="all: every one that DATA has label files for")
    parser.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT", help="of model birq or birq_ctc; NAME=PATH names its row")
    parser.add_argument("data", metavar="DATA", help="folder with <split>.tsv and label files, see examples/probes/README.md")
    parser.add_argument("--out", help="folder for results.json, to which is added, and table.md")
    parser.add_argument("--untrained", action="store_true", help="also the first checkpoint's architecture with new weights")
    parser.add_argument("--labels", type=_label, action="append", default=[], metavar="TASK=SUFFIX", help="other label files")
    parser.add_argument("--splits", nargs=3, default=("train", "dev", "test"), metavar=("TRAIN", "DEV", "TEST"))
    parser.add_argument("--superb", action="store_true", help="the benchmark's settings; for its corpora and a GPU")
    for name, kind in (("updates", int), ("lr", float), ("batch-size", int), ("size", int)):
        parser.add_argument(f"--{name}", type=kind, default=argparse.SUPPRESS, help="instead of the task's own")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--normalise-layers", action="store_true", help="layer-normalise every layer's frames")
    parser.add_argument("--memory-gb", type=float, default=4.0, help="hidden states above this are in a temporary file (4)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ...; the GPU if there is one")
    return parser


def _label(text):
    task, _, suffix = text.partition("=")
    if not task or not suffix:
        raise argparse.ArgumentTypeError(f"must be TASK=SUFFIX, but is {text!r}")
    return task, suffix


if __name__ == "__main__":
    sys.exit(main())
