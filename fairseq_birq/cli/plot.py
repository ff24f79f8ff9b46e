"""birq-plot KIND ... --out PICTURE.png: pictures of runs, codes and encoders."""

import argparse
import sys

from fairseq_birq.cli import says_what_is_wrong
from fairseq_birq.tools.pictures import pictures

_MANIFEST = ("--manifest", dict(required=True, help="FOLDER/<split>.tsv"))
_ALIGNMENT = ("--alignment", dict(required=True, help="phones of the manifest: a table, a .ctm, or a folder of TextGrids"))
_TIER = ("--tier", dict(default="phones", help="of the TextGrids"))
_CHECKPOINT = ("checkpoint", dict(help="of model birq"))
_SOURCE = ("--source", dict(default="raw_input", help="a target source of the checkpoint"))
_LAYERS = ("--layers", dict(type=int, nargs="+", default=(), help="0 = what enters the first; 0, the middle, the last"))


def _minutes(default):
    return ("--minutes", dict(type=float, default=default, help=f"of audio at most ({default:g})"))


KINDS = {
    "curves": ("training curves of several runs", pictures.draw_curves, [
        ("logs", dict(nargs="+", metavar="[NAME=]LOG", help="with common.log_format=json"))]),
    "layer-weights": ("what tasks take from each layer", pictures.draw_layer_weights, [
        ("weights", dict(help="JSON: {task: [weight of each layer]}"))]),
    "codes": ("how often codes are used, and by which phones", pictures.draw_codes, [
        _CHECKPOINT, _MANIFEST, _ALIGNMENT, _TIER, _SOURCE, _minutes(60),
        ("--column", dict(type=int, default=0, help="codebook"))]),
    "tsne": ("projected features by phone and by speaker", pictures.draw_embeddings, [
        ("checkpoints", dict(nargs="+", help="one, or one per stage")), _MANIFEST, _ALIGNMENT, _TIER, _LAYERS, _minutes(20),
        ("--speakers", dict(help="one speaker per row of the manifest; else the first folder of each path")),
        ("--points", dict(type=int, default=100, help="frames per phone")),
        ("--seed", dict(type=int, default=1, help="of projections, points and t-SNE"))]),
    "utterance": ("one utterance: log-Mel, mask, phones, codes", pictures.draw_utterance, [
        _CHECKPOINT, _MANIFEST, (_ALIGNMENT[0], dict(_ALIGNMENT[1], required=False)), _TIER,
        ("--row", dict(type=int, default=0, help="of the manifest, from 0")),
        ("--before", dict(help="an earlier checkpoint, to mark the codes that changed"))]),
    "cka": ("how alike the layers of two checkpoints are", pictures.draw_similarity, [
        ("checkpoints", dict(nargs=2)), _MANIFEST, _minutes(5)]),
}  # fmt: skip


@says_what_is_wrong
def main(argv=None) -> int:
    options = vars(parser().parse_args(argv))
    draw = KINDS[options.pop("kind")][1]
    draw(**options)
    print(options["out"])
    return 0


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("birq-plot", description="Pictures of runs, codes and encoders, as wide as a printed page")
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    for kind, (title, _, arguments) in KINDS.items():
        of_kind = kinds.add_parser(kind, help=title, description=title)
        for name, settings in [*arguments, ("--out", dict(required=True, help="a .png or .pdf file"))]:
            of_kind.add_argument(name, **settings)
    return parser


if __name__ == "__main__":
    sys.exit(main())
