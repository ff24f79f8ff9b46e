"""birq-manifest CORPUS ...: fairseq manifests of a corpus; `birq-manifest FOLDER OUT` is the corpus audio_folder."""

import argparse
import difflib
import os
import sys

from fairseq_birq.cli import says_what_is_wrong
from fairseq_birq.corpora import CORPORA, make
from fairseq_birq.errors import UserError

FOLDER = "audio_folder"


@says_what_is_wrong
def main(argv=None) -> int:
    arguments = sys.argv[1:] if argv is None else list(argv)
    corpus = arguments.pop(0) if arguments and arguments[0] in CORPORA else FOLDER
    if corpus == FOLDER:
        _refuse_misspelt(arguments)
    options = vars(parser(corpus).parse_args(arguments))
    lines = make(corpus, **options)
    print("\n".join(lines).encode("utf-8", "backslashreplace").decode("utf-8"))  # also names that are not UTF-8
    return 0


def _refuse_misspelt(arguments) -> None:
    """Raises UserError for three words of which the first is no folder: it was meant to be a corpus. So was `demo`, once."""
    if arguments[:1] == ["demo"] and not os.path.isdir("demo"):
        raise UserError("the demo's corpus is made by `python examples/demo/corpus.py OUT` in a clone of the repository")
    words = [argument for argument in arguments if not argument.startswith("-")]
    if len(words) > 2 and arguments[0] == words[0] and not os.path.isdir(words[0]) and os.path.isdir(words[1]):
        close = difflib.get_close_matches(words[0], CORPORA, n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]}?" if close else f": there are {', '.join(CORPORA)}"
        raise UserError(f"{words[0]} is neither a corpus nor a folder{hint}")


def parser(corpus: str) -> argparse.ArgumentParser:
    module = CORPORA[corpus]
    description, epilog = module.__doc__, None
    if corpus == FOLDER:
        names = "\n".join(f"    birq-manifest {name:<14}{CORPORA[name].__doc__.splitlines()[0]}" for name in CORPORA)
        epilog = f"corpora, each with its own --help:\n{names}"
    parser = argparse.ArgumentParser(
        "birq-manifest" if corpus == FOLDER else f"birq-manifest {corpus}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    parser.add_argument("out", help="folder for the manifests")
    parser.add_argument("--pack-zip", type=float, metavar="GB", help="also copy the audio into OUT/zips, in zips of at most GB")
    parser.add_argument("--min-seconds", type=float, default=0.0, help="leave out shorter utterances")
    parser.add_argument("--max-seconds", type=float, default=float("inf"), help="leave out longer utterances")
    parser.add_argument("--workers", type=int, default=8, help="threads that read audio (8)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
