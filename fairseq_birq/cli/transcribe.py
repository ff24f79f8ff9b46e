"""birq-transcribe CHECKPOINT AUDIO...: text, word times and confidence of recordings."""

import argparse
import logging
import sys

from fairseq_birq.cli import says_what_is_wrong
from fairseq_birq.decoding.options import OF_LEXICON, choose_decoder
from fairseq_birq.errors import UserError
from fairseq_birq.progress import progress
from fairseq_birq.tools.transcribe.formats import FORMATS
from fairseq_birq.tools.transcribe.output import format_of, open_output
from fairseq_birq.tools.transcribe.recogniser import load_recogniser
from fairseq_birq.tools.transcribe.recordings import find_recordings
from fairseq_birq.tools.transcribe.streaming import STDIN, StreamingRecogniser
from fairseq_birq.tools.transcribe.transcribe import transcribe
from fairseq_birq.tools.transcribe.words import Failure

LM_WEIGHT, BEAM = 2.0, 50
MAX_SECONDS, BATCH_SECONDS = 30.0, 100.0
CHUNK_MS, LEFT_CHUNKS = 640.0, 8
_NOT_GIVEN = object()


@says_what_is_wrong
def main(argv=None) -> int:
    """Exit status 0: all were transcribed; 1: some could not be read, and are named; 2: nothing was done."""
    arguments = parser().parse_intermixed_args(argv)
    failed, total = run(arguments)
    return 1 if failed else 0


def run(arguments):
    """(recordings that could not be read, all recordings). Raises UserError."""
    of_lexicon = _of_lexicon(vars(arguments))
    _check_stream(arguments, of_lexicon)
    form = format_of(arguments.format, arguments.out)
    recordings = find_recordings(arguments.audio)
    output = open_output(form, arguments.out, recordings)
    recogniser = load_recogniser(arguments.checkpoint, arguments.dictionary, arguments.device)
    failures = []
    with progress(total=len(recordings), title="transcribe", unit="recordings") as bar:
        heard = _minutes_of(bar)  # a recording may be hours long
        for result in _results(arguments, recogniser, recordings, of_lexicon, heard):
            if isinstance(result, Failure):
                failures.append(result)
                print(f"left out {result.name}: {UserError(result.reason)}", file=sys.stderr)
            else:
                output.write(result)
            bar.update()
    if len(failures) == len(recordings):
        raise UserError(f"none of the {len(recordings)} recordings could be read")
    for path in output.close():
        print(path, file=sys.stderr)
    if failures:
        print(f"{len(failures)} of {len(recordings)} recordings could not be read and are left out", file=sys.stderr)
    return len(failures), len(recordings)


def _results(arguments, recogniser, recordings, of_lexicon, heard):
    if not arguments.stream:
        max_seconds = MAX_SECONDS if arguments.max_seconds is None else arguments.max_seconds
        batch_seconds = BATCH_SECONDS if arguments.batch_seconds is None else arguments.batch_seconds
        return transcribe(recogniser, recogniser.decoder(**of_lexicon), recordings, max_seconds, batch_seconds, heard)
    chunk_ms = CHUNK_MS if arguments.chunk_ms is None else arguments.chunk_ms
    streaming = StreamingRecogniser(recogniser, chunk_ms, _left_chunks(arguments.left_chunks))
    print(streaming.latency(), file=sys.stderr)
    return _streamed(streaming, recordings, heard)


def _streamed(streaming, recordings, heard):
    yield from streaming.transcribe(recordings, lambda text: print(text, file=sys.stderr, flush=True), heard)
    print(streaming.speed(), file=sys.stderr)


def _check_stream(arguments, of_lexicon) -> None:
    """Raises UserError for an option without effect."""
    if arguments.stream:
        given = [name for name in ("max_seconds", "batch_seconds") if getattr(arguments, name) is not None]
        if of_lexicon:
            raise UserError("--stream takes the best letter of every frame: leave --lexicon out")
        without = ", for a stream is neither cut nor batched"
    else:
        given = [name for name in ("chunk_ms", "left_chunks") if getattr(arguments, name) is not None]
        without = " without --stream"
        if STDIN in arguments.audio:
            raise UserError(f"{STDIN} is audio from stdin, which only --stream reads")
    for name in given:
        raise UserError(f"--{name.replace('_', '-')} {getattr(arguments, name)} would have no effect{without}: leave it out")


def _left_chunks(text):
    """Raises UserError where it is neither a number nor `all`."""
    if text is None or text == "all":
        return LEFT_CHUNKS if text is None else None
    try:
        return int(text)
    except ValueError:
        raise UserError(f"--left-chunks must be a whole number or `all`, but is {text!r}") from None


def _minutes_of(bar):
    """A function that adds seconds of audio to what a counter of recordings says."""
    seconds = []

    def heard(more: float) -> None:
        seconds.append(more)
        bar.set_postfix({"audio": f"{sum(seconds) / 60:.0f} min"})
        bar.update(0)

    return heard


def _of_lexicon(given: dict) -> dict:
    """Arguments of the lexicon decoder; none for greedy decoding. Raises UserError for an option without effect."""
    options = {key: given[key] for key in OF_LEXICON if key in given}
    names = {"kenlm": "--lm"}
    if choose_decoder("auto", options, names, dict.fromkeys(OF_LEXICON, _NOT_GIVEN)) == "greedy":
        return {}
    return {"beam": BEAM, **({"lm_weight": LM_WEIGHT} if "kenlm" in options else {}), **options}


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "birq-transcribe", description="Text, word times and confidence of recordings at any sample rate and of any length"
    )
    parser.add_argument("checkpoint", help="fine-tuned, of model birq_ctc; its letters come from it")
    parser.add_argument("audio", nargs="+", help="audio files, folders that are searched for them, manifests (.tsv)")
    parser.add_argument("--format", choices=sorted(FORMATS), help="txt, or that of --out; json and ctm have times and confidence")
    parser.add_argument("--out", help="file ending in .txt, .json, .srt or .ctm, or a folder for a file per recording; stdout")
    parser.add_argument("--dictionary", help="dict.ltr.txt of the training data, for a checkpoint that holds no letters")
    parser.add_argument("--max-seconds", type=float, help=f"longer recordings are cut in pauses ({MAX_SECONDS:g})")
    parser.add_argument("--batch-seconds", type=float, help=f"of audio, with padding, in a batch ({BATCH_SECONDS:g})")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ...; the GPU if there is one")
    stream = parser.add_argument_group("while it is heard", "text after every chunk, of a causal model (docs/streaming.md)")
    stream.add_argument("--stream", action="store_true", help=f"text so far goes to stderr; {STDIN} as audio: see the page")
    stream.add_argument("--chunk-ms", type=float, help=f"length of a chunk, a multiple of the encoder frame ({CHUNK_MS:g})")
    stream.add_argument("--left-chunks", help=f"chunks before its own that a frame sees, or all ({LEFT_CHUNKS})")
    lexicon = parser.add_argument_group("with a lexicon", "words of a lexicon instead of the best letter of every frame")

    def add(name, **settings):
        lexicon.add_argument(name, default=argparse.SUPPRESS, **settings)

    add("--lexicon", help="lines of word<TAB>l e t t e r s |")
    add("--lm", dest="kenlm", metavar="LM", help="n-gram model over words, .arpa or KenLM's binary")
    add("--lm-weight", type=float, help=f"times log10 of the language model's probability ({LM_WEIGHT:g})")
    add("--word-score", type=float, help="added per word (0)")
    add("--sil-weight", type=float, help="added per frame of the word boundary (0)")
    add("--beam", type=int, help=f"hypotheses kept per frame ({BEAM})")
    add("--beam-size-token", type=int, help="letters tried per frame; 0 tries all (0)")
    add("--beam-threshold", type=float, help="hypotheses this far behind the best one are dropped (50)")
    return parser


def command() -> int:
    """The console script: warnings go to stderr, beside the transcripts and not among them."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr, force=True)
    return main()


if __name__ == "__main__":
    sys.exit(command())
