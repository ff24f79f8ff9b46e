"""Any folder of audio files: find them, measure them, say what was left out and why.

Layout: wav, flac, ogg and mp3 files in FOLDER or below it. A part of them, drawn by a hash of their paths, is `valid`.
"""

from collections import Counter
from pathlib import Path
from typing import List, Optional

from fairseq_birq.corpora.helpers.collection import Collection, Utterance, check_fraction
from fairseq_birq.corpora.helpers.scanning import SUFFIXES, WORKERS, check_folder, find_audio, read_headers
from fairseq_birq.corpora.helpers.transcripts import Transcripts
from fairseq_birq.corpora.helpers.writing import write
from fairseq_birq.errors import UserError


def add_arguments(parser) -> None:
    parser.add_argument("folder", help="searched with all folders below it")
    parser.add_argument("--valid-fraction", type=float, default=0.01, help="share of the files for valid.tsv (0.01)")
    parser.add_argument("--seed", type=int, default=1, help="of the split (1)")
    parser.add_argument("--transcripts", help="lines of path<TAB>text; adds .wrd, .ltr and dict.ltr.txt")


def make(
    folder: str,
    out: str,
    valid_fraction: float = 0.01,
    seed: int = 1,
    min_seconds: float = 0.0,
    max_seconds: float = float("inf"),
    transcripts: Optional[str] = None,
    workers: int = WORKERS,
) -> List[str]:
    """Write `train.tsv` and `valid.tsv`, with transcripts also `.wrd`, `.ltr` and `dict.ltr.txt`.

    Everything is read before anything is written.

    Returns:
        Lines that say what is there, what was left out and what was written.

    Raises:
        UserError: a setting is out of range, the folder is missing, or nothing usable is in it.
    """
    check_fraction(valid_fraction)
    texts = Transcripts(transcripts) if transcripts else None
    collection = scan(folder, min_seconds, max_seconds, texts, workers)
    collection.hold_out(valid_fraction, seed, group=str)
    return write(collection, out, root=str(Path(folder).resolve()))


def scan(
    folder, min_seconds: float = 0.0, max_seconds: float = float("inf"), transcripts=None, workers: int = WORKERS
) -> Collection:
    """Find the audio files below `folder` and measure each; in the order of their paths.

    Raises:
        UserError: the folder is missing or holds no audio file.
    """
    others = Counter()
    names = find_audio(check_folder(folder), others)
    if not names:
        raise UserError(f"{folder}: no {', '.join(suffix[1:] for suffix in SUFFIXES)} file in it or below it")
    collection = Collection(min_seconds, max_seconds)
    collection.other_files = others
    for name, result in read_headers(folder, names, workers):
        text = transcripts.pop(name) if transcripts is not None else None
        if isinstance(result, str):
            collection.leave_out("unusable audio", f"{name} ({result})")
        elif transcripts is not None and not text:
            collection.leave_out("audio without transcript", name)
        else:
            collection.add("train", Utterance(name, result.num_samples, result.sample_rate, text))
    if transcripts is not None:
        for key in transcripts.unused():
            collection.leave_out("transcript without audio", key)
    return collection
