"""birq-manifest FOLDER OUT: fairseq manifests of a folder of audio, or of an embedded corpus by its name."""

import argparse
import sys

from fairseq_birq.errors import UserError
from fairseq_birq.manifests import CORPORA, audio_folder


def main(argv=None) -> int:
    arguments = sys.argv[1:] if argv is None else list(argv)
    if arguments and arguments[0] in CORPORA:
        options = vars(corpus_parser(arguments[0]).parse_args(arguments[1:]))
    else:
        options = vars(folder_parser().parse_args(arguments))
    make = options.pop("make")
    try:
        lines = make(**options)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(lines))
    return 0


def folder_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "birq-manifest",
        description=f"Manifests of a folder with wav, flac, ogg or mp3 files. Embedded corpora: {', '.join(CORPORA)}",
    )
    parser.set_defaults(make=audio_folder.make)
    parser.add_argument("folder", help="searched with all folders below it")
    parser.add_argument("out", help="folder for train.tsv and valid.tsv")
    parser.add_argument("--valid-fraction", type=float, default=0.01, help="share of the files for valid.tsv")
    parser.add_argument("--seed", type=int, default=1, help="of the split")
    parser.add_argument("--min-seconds", type=float, default=0.0, help="leave out shorter files")
    parser.add_argument("--max-seconds", type=float, default=float("inf"), help="leave out longer files")
    parser.add_argument("--transcripts", help="lines of path<TAB>text; adds .wrd, .ltr and dict.ltr.txt")
    return parser


def corpus_parser(name) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(f"birq-manifest {name}", description=f"The embedded corpus {name}")
    parser.set_defaults(make=CORPORA[name])
    parser.add_argument("out", help="folder for the audio and its manifests")
    parser.add_argument("--minutes", type=float, default=20.0, help="of pre-training audio")
    parser.add_argument("--seed", type=int, default=1, help="of sentences, voices and noise")
    return parser


if __name__ == "__main__":
    sys.exit(main())
