"""Spoken digits (github.com/Jakobovski/free-spoken-digit-dataset): 0 to 9 in English, 6 speakers, 8 kHz, one word a file.

Layout: FOLDER is a clone, with

    recordings/<digit>_<speaker>_<take>.wav

Written: `train`, `dev` and `test` of the lists in manifests/fsdd: 8 and 2 takes of each digit and speaker drawn from takes
5 to 49, and takes 0 to 4, the dataset's own test set. The audio itself as OUT/<speaker>/<name>.flac, the same samples at
8 kHz; `.wrd`, `.ltr`, `.spk`, and of `train` dict.ltr.txt and lexicon.txt.

Sizes: of those lists.
"""

from pathlib import Path
from typing import List

from fairseq_birq.corpora.helpers.collection import Collection, Utterance
from fairseq_birq.corpora.helpers.flac_copies import copy_all
from fairseq_birq.corpora.helpers.lists import read_list
from fairseq_birq.corpora.helpers.scanning import WORKERS, check_folder
from fairseq_birq.corpora.helpers.texts import write_lexicon, write_speakers
from fairseq_birq.corpora.helpers.writing import Expected, write
from fairseq_birq.errors import UserError

DIGITS = "zero one two three four five six seven eight nine".split()
SPLITS = ("train", "dev", "test")
_SOURCE = "manifests/fsdd"
SIZES = {"train": Expected(_SOURCE, 480), "dev": Expected(_SOURCE, 120), "test": Expected(_SOURCE, 300)}


def add_arguments(parser) -> None:
    parser.add_argument("folder", help="a clone of the dataset's repository")


def make(
    folder: str,
    out: str,
    min_seconds: float = 0.0,
    max_seconds: float = float("inf"),
    workers: int = WORKERS,
) -> List[str]:
    """Write audio, manifests and transcripts of the three sets.

    Raises:
        UserError: the folder is not a clone of the dataset.
    """
    recordings = check_folder(folder) / "recordings"
    if not recordings.is_dir():
        raise UserError(f"{folder}: no folder recordings/ in it; give a clone of the dataset's repository")
    collection = Collection(min_seconds, max_seconds)
    for split in SPLITS:
        originals = {}
        for name in read_list(f"fsdd/{split}.txt"):
            original = recordings / f"{name}.wav"
            if original.is_file():
                originals[f"{name.split('_')[1]}/{name}.flac"] = original
            else:
                collection.leave_out("file of a list that is not there", original.name)
        for path, info in copy_all(originals, out, collection, workers).infos.items():
            collection.add(split, Utterance(path, info.num_samples, info.sample_rate, DIGITS[int(Path(path).name[0])]))
    lines = write(collection, out, ".", SPLITS, expected=SIZES, dictionary="train")
    write_speakers(out, collection.splits)
    write_lexicon(Path(out) / "lexicon.txt", [item.text for item in collection.splits.get("train", [])])
    return lines
