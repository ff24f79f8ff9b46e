"""LibriSpeech (OpenSLR 12): read English, 16 kHz flac, one file per utterance, transcripts in capitals.

Layout: FOLDER is `LibriSpeech` or the folder above it, with the unpacked archives

    <subset>/<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac
    <subset>/<speaker>/<chapter>/<speaker>-<chapter>.trans.txt, lines of `<speaker>-<chapter>-<number> TEXT`

Written: `train` (960: the three training subsets; or 460, 360, 100), each development and test subset by its own name,
and `valid`, both development subsets together. A subset that is missing is left out with a warning.

Sizes: hours from Panayotov et al., ICASSP 2015, table 1; utterances from the dataset card openslr/librispeech_asr.
"""

from pathlib import Path
from typing import Dict, List

from fairseq_birq.corpora.helpers.collection import Collection, Utterance
from fairseq_birq.corpora.helpers.scanning import WORKERS, check_folder, find_audio, read_headers
from fairseq_birq.corpora.helpers.text_files import read_table
from fairseq_birq.corpora.helpers.writing import Expected, write
from fairseq_birq.errors import UserError

SIZES = {  # subset: utterances, hours
    "train-clean-100": (28539, 100.6),
    "train-clean-360": (104014, 363.6),
    "train-other-500": (148688, 496.7),
    "dev-clean": (2703, 5.4),
    "dev-other": (2864, 5.3),
    "test-clean": (2620, 5.4),
    "test-other": (2939, 5.1),
}
CLEAN_100, CLEAN_360, OTHER_500 = list(SIZES)[:3]
TRAIN = {"100": (CLEAN_100,), "360": (CLEAN_360,), "460": (CLEAN_100, CLEAN_360), "960": (CLEAN_100, CLEAN_360, OTHER_500)}
EVALUATION = tuple(list(SIZES)[3:])
CONTAINS = {"valid": ("dev-clean", "dev-other")}
SPLITS = ("train", *EVALUATION)


def add_arguments(parser) -> None:
    parser.add_argument("folder", help="LibriSpeech, or the folder above it")
    parser.add_argument("--train", choices=list(TRAIN), default="960", help="hours of train.tsv (960)")


def make(
    folder: str,
    out: str,
    train: str = "960",
    min_seconds: float = 0.0,
    max_seconds: float = float("inf"),
    workers: int = WORKERS,
) -> List[str]:
    """Write manifests and transcripts of the subsets below `folder`.

    Raises:
        UserError: the folder holds no subset, or a file of transcripts is malformed.
    """
    root = _root(check_folder(folder))
    split_of = {**dict.fromkeys(TRAIN[train], "train"), **{subset: subset for subset in EVALUATION}}
    missing = [subset for subset in split_of if not (root / subset).is_dir()]
    collection = Collection(min_seconds, max_seconds)
    for subset, split in split_of.items():
        if subset not in missing:
            _collect(collection, root, subset, split, workers)
    expected = {split: _expected([subset for subset in split_of if split_of[subset] == split]) for split in SPLITS}
    lines = write(collection, out, str(root.resolve()), SPLITS, CONTAINS, expected)
    return lines + [f"warning     {subset}: no such folder in {root}" for subset in missing]


def _root(folder: Path) -> Path:
    for root in (folder, folder / "LibriSpeech"):
        if any((root / subset).is_dir() for subset in SIZES):
            return root
    raise UserError(f"{folder}: no subset of LibriSpeech in it, as {CLEAN_100}/ or LibriSpeech/{CLEAN_100}/")


def _collect(collection, root, subset, split, workers):
    names = [f"{subset}/{name}" for name in find_audio(root / subset)]
    texts = _read_transcripts(root / subset)
    for name, info in read_headers(root, names, workers):
        text = texts.pop(Path(name).stem, None)
        if isinstance(info, str):
            collection.leave_out("unusable audio", f"{name} ({info})")
        elif text is None:
            collection.leave_out("audio without transcript", name)
        else:
            collection.add(split, Utterance(name, info.num_samples, info.sample_rate, text))
    for key in texts:
        collection.leave_out("transcript without audio", f"{subset}: {key}")


def _read_transcripts(folder: Path) -> Dict[str, str]:
    texts = {}
    for path in sorted(folder.glob("*/*/*.trans.txt")):
        texts.update(read_table(path))
    return texts


def _expected(subsets) -> Expected:
    sizes = [SIZES[subset] for subset in subsets]
    hours = round(sum(size[1] for size in sizes), 1)
    return Expected("Panayotov et al. 2015 and openslr/librispeech_asr", sum(size[0] for size in sizes), hours)
