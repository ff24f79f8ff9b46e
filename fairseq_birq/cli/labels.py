"""birq-labels [CHECKPOINT] MANIFEST OUT --layer K: codes of a whole corpus, for `label_file` targets."""

import argparse
import sys

from fairseq_birq.errors import UserError
from fairseq_birq.objective.fitting import CODEBOOKS, PROJECTIONS
from fairseq_birq.targets.normalisation import MODES
from fairseq_birq.tools.relabel.fitted import NORMALISATIONS, FittedCodes
from fairseq_birq.tools.relabel.label_sources import LayerCodes, SourceCodes
from fairseq_birq.tools.relabel.labelling import make

_OF_A_LAYER = ("normalisation", "num_codebooks", "codebook_size", "codebook_dim", "seed", "statistics_utterances")
_FITTED = ("codebook", "projection", "refine", "fit_utterances")


def main(argv=None) -> int:
    options = vars(parser().parse_intermixed_args(argv))
    what = {key: options.pop(key) for key in ("layer", "source", "features")}
    settings = {key: options.pop(key) for key in (*_OF_A_LAYER, *_FITTED) if key in options}
    try:
        codes = _codes(settings, **what)
        if options["checkpoint"] is None and codes is not None and what["features"] is None:
            raise UserError("name a CHECKPOINT before the manifest; only --features, or --like labels of these, do without one")
        lines = make(**options, **({} if codes is None else {"codes": codes}))
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(lines))
    return 0


def _codes(settings: dict, layer, source, features):
    """What the options ask for; None for --like. Raises UserError for options that do not go together."""
    if settings and layer is None and features is None:
        raise UserError(f"--{next(iter(settings)).replace('_', '-')} works with --layer or --features only")
    if features is not None or set(settings) & set(_FITTED):
        if "statistics_utterances" in settings:
            raise UserError("--statistics-utterances is of random-projection codes; for fitted ones it is --fit-utterances")
        return FittedCodes.of(features or "layer", **({} if layer is None else {"layer": layer}), **settings)
    if layer is not None:
        if settings.get("normalisation", MODES[0]) not in MODES:
            raise UserError(
                f"--normalisation {settings['normalisation']} is of fitted codes; those of --layer: {', '.join(MODES)}"
            )
        return LayerCodes(layer, **settings)
    return None if source is None else SourceCodes(source)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("birq-labels", description="Codes of every encoder frame of a corpus")
    parser.add_argument("checkpoint", nargs="?", help="of model birq; with --layer also of birq_ctc; --features need none")
    parser.add_argument("manifest", help="FOLDER/<split>.tsv")
    parser.add_argument("out", help="folder for the labels; `model.targets.label_file.path` wants <path>/<split>")
    codes = parser.add_mutually_exclusive_group(required=True)
    codes.add_argument("--layer", type=int, help="hidden states of this layer, counted from 1, with a new quantizer")
    codes.add_argument("--source", help="a target source of the checkpoint, as raw_input")
    codes.add_argument("--features", choices=("mfcc", "logmel"), help="of the audio, with fitted codes: k-means unless told")
    codes.add_argument("--like", metavar="LABELS", help="the codes of that folder, for another split of the corpus")
    parser.add_argument("--shard", default="0/1", help="i/n: the i-th of n parts of the manifest, from 0; each is made at once")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ...; the GPU if there is one")
    parser.add_argument("--workers", type=int, default=0, help="processes that read audio")
    parser.add_argument(
        "--bad-audio-budget", type=float, default=0.01, help="share of the rows that may be bad before it is an error"
    )
    given = dict(default=argparse.SUPPRESS)
    modes = list(dict.fromkeys(mode for modes in NORMALISATIONS.values() for mode in modes))
    parser.add_argument("--normalisation", choices=modes, help="before the projection (standardize+layer)", **given)
    for name in _OF_A_LAYER[1:]:
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=int, help=f"of --layer's quantizer ({getattr(LayerCodes, name)})", **given
        )
    fitted = parser.add_argument_group("fitted codes, of --features or --layer (as soon as one of these is given)")
    fitted.add_argument("--codebook", choices=CODEBOOKS, help="HuBERT's clusters, or random codes (kmeans)", **given)
    fitted.add_argument("--projection", choices=PROJECTIONS, help="before it (none; with random codes: random)", **given)
    fitted.add_argument("--refine", type=int, metavar="PASSES", help="that move each code to the mean of its frames (0)", **given)
    fitted.add_argument("--fit-utterances", type=int, help="at most so many, evenly spread, to fit on (10000)", **given)
    return parser


if __name__ == "__main__":
    sys.exit(main())
