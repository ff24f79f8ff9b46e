"""Libri-Light (arXiv 1912.07875), and any folder of long recordings without transcripts, cut into pieces.

Layout: FOLDER holds `small`, `medium`, `large` (or some of them, or is one of them, or any other tree of audio files)

    <subset>/<speaker>/<book>/<file>.flac and .json, of which the .json is not needed

Written: `train`, and as `valid` a share of the speakers (folders two above a file), of one speaker a share of the files.
--cut silence ends each piece at the quietest moment between half and the whole of --piece-seconds, --cut length makes
equal pieces, --cut none leaves files whole. Nothing is dropped but what --min-seconds and --max-seconds leave out.

Sizes: hours of the subsets from the README of facebookresearch/libri-light, data_preparation. Not checked on the corpus.
"""

import os
from pathlib import Path
from typing import List

from fairseq_birq.corpora.helpers.collection import Collection
from fairseq_birq.corpora.helpers.scanning import SUFFIXES, WORKERS, check_folder, find_audio, map_files, usable
from fairseq_birq.corpora.helpers.segments import piece
from fairseq_birq.corpora.helpers.silence import equal_cuts, quiet_cuts
from fairseq_birq.corpora.helpers.writing import Expected, compare, write
from fairseq_birq.data.audio import AudioError
from fairseq_birq.data.audio_paths import parse_audio_path
from fairseq_birq.errors import UserError

CUTS = ("silence", "length", "none")
_SOURCE = "facebookresearch/libri-light, data_preparation"
SIZES = {name: Expected(_SOURCE, hours=number) for name, number in {"small": 577, "medium": 5193, "large": 51934}.items()}


def add_arguments(parser) -> None:
    parser.add_argument("folder", help="searched with all folders below it")
    parser.add_argument("--cut", choices=CUTS, default="silence", help="where long files are cut (silence)")
    parser.add_argument("--piece-seconds", type=float, default=20.0, help="longest piece (20)")
    parser.add_argument("--valid-fraction", type=float, default=0.01, help="share of the speakers for valid.tsv (0.01)")
    parser.add_argument("--seed", type=int, default=1, help="of the split (1)")


def make(
    folder: str,
    out: str,
    cut: str = "silence",
    piece_seconds: float = 20.0,
    valid_fraction: float = 0.01,
    seed: int = 1,
    min_seconds: float = 0.0,
    max_seconds: float = float("inf"),
    workers: int = WORKERS,
) -> List[str]:
    """Write manifests of pieces.

    Raises:
        UserError: a setting is out of range, or there is no audio.
    """
    if not 1 <= piece_seconds < float("inf"):
        raise UserError(f"--piece-seconds must be >= 1 and finite, but is {piece_seconds}")
    root = check_folder(folder)
    names = find_audio(root)
    if not names:
        raise UserError(f"{root}: no {', '.join(suffix[1:] for suffix in SUFFIXES)} file in it or below it")
    collection = Collection(min_seconds, max_seconds)
    infos = usable(root, names, collection, workers)

    def cuts(name):
        try:
            return _cuts(root, name, infos[name], cut, int(piece_seconds * infos[name].sample_rate))
        except AudioError as error:
            return str(error)

    for name, ends in map_files(cuts, list(infos), workers, "cut"):
        if isinstance(ends, str):
            collection.leave_out("unusable audio", ends)
            continue
        for begin, end in zip([0, *ends], ends):
            collection.add("train", piece(name, infos[name], begin, end))
    collection.hold_out(valid_fraction, seed, speaker if len(set(map(speaker, infos))) > 1 else _file)
    return write(collection, out, str(root.resolve())) + _compare_subsets(root, infos)


def speaker(path: str) -> str:
    """Folder two above a file, or the one it is in where there is only that."""
    parents = Path(parse_audio_path(path).file).parents
    return str(parents[1] if len(parents) > 2 else parents[0])


def _file(path: str) -> str:
    return parse_audio_path(path).file


def _cuts(root, name, info, cut, max_samples) -> List[int]:
    """Ends of the pieces of a file, in samples."""
    if cut == "none" or info.num_samples <= max_samples:
        return [info.num_samples]
    if cut == "length":
        return equal_cuts(info.num_samples, max_samples)
    ends = quiet_cuts(os.path.join(root, name), max_samples)
    if ends[-1] != info.num_samples:
        raise AudioError(f"{name}: {ends[-1]} of {info.num_samples} samples are there")
    return ends


def _compare_subsets(root, infos) -> List[str]:
    """Hours of small, medium and large before cutting beside the published ones."""
    lines = []
    for subset, size in SIZES.items():
        whole = root.name == subset
        seconds = [info.seconds for name, info in infos.items() if whole or Path(name).parts[0] == subset]
        if seconds:
            lines.append(compare(subset, len(seconds), sum(seconds) / 3600, size))
    return lines
