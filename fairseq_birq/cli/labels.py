"""birq-labels CHECKPOINT MANIFEST OUT --layer K: codes of a whole corpus, for `label_file` targets."""

import argparse
import sys

from fairseq_birq.errors import UserError
from fairseq_birq.tools.relabel.label_sources import LayerCodes, SourceCodes
from fairseq_birq.tools.relabel.labelling import make

_OF_A_LAYER = ("normalisation", "num_codebooks", "codebook_size", "codebook_dim", "seed", "statistics_utterances")


def main(argv=None) -> int:
    options = vars(parser().parse_args(argv))
    layer, source = options.pop("layer"), options.pop("source")
    settings = {key: options.pop(key) for key in _OF_A_LAYER if key in options}
    try:
        if settings and layer is None:
            raise UserError(f"--{next(iter(settings)).replace('_', '-')} works with --layer only")
        if layer is not None:
            options["codes"] = LayerCodes(layer, **settings)
        elif source is not None:
            options["codes"] = SourceCodes(source)
        lines = make(**options)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(lines))
    return 0


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("birq-labels", description="Codes of every encoder frame of a corpus")
    parser.add_argument("checkpoint", help="of model birq; with --layer also of birq_ctc")
    parser.add_argument("manifest", help="FOLDER/<split>.tsv")
    parser.add_argument("out", help="folder for the labels; `model.targets.label_file.path` wants <path>/<split>")
    codes = parser.add_mutually_exclusive_group(required=True)
    codes.add_argument("--layer", type=int, help="hidden states of this layer, counted from 1, with a new quantizer")
    codes.add_argument("--source", help="a target source of the checkpoint, as raw_input")
    codes.add_argument("--like", metavar="LABELS", help="the codes of that folder, for another split of the corpus")
    parser.add_argument("--shard", default="0/1", help="i/n: the i-th of n parts of the manifest, from 0; each is made at once")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ...; the GPU if there is one")
    parser.add_argument("--workers", type=int, default=0, help="processes that read audio")
    parser.add_argument(
        "--bad-audio-budget", type=float, default=0.01, help="share of the rows that may be bad before it is an error"
    )
    given = dict(default=argparse.SUPPRESS)
    modes = ("layer", "standardize", "standardize+layer", "whiten")
    parser.add_argument("--normalisation", choices=modes, help="before the projection (standardize+layer)", **given)
    for name in _OF_A_LAYER[1:]:
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=int, help=f"of --layer's quantizer ({getattr(LayerCodes, name)})", **given
        )
    return parser


if __name__ == "__main__":
    sys.exit(main())
