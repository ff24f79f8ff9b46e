"""Audio files of a corpus: find them, and read what their headers say."""

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple, Union

from fairseq_birq.corpora.helpers.collection import Collection
from fairseq_birq.data.audio import SUFFIXES, AudioError, AudioInfo, read_header
from fairseq_birq.data.audio_paths import parse_audio_path
from fairseq_birq.errors import UserError
from fairseq_birq.progress import progress

WORKERS = 8  # threads; opening files is mostly waiting for the disk


def check_folder(folder) -> Path:
    """Raises: UserError: there is no such folder."""
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: no such folder")
    return Path(folder)


def find_audio(folder, others: Optional[Counter] = None) -> List[str]:
    """Sorted paths, relative to `folder`, of the audio files below it; links are followed, each folder once.

    others: counts the other files by their suffix
    """
    found, seen = [], set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        audio = [name for name in files if name.lower().endswith(SUFFIXES)]
        found += [os.path.relpath(os.path.join(parent, name), folder) for name in audio]
        if others is not None:
            others.update(os.path.splitext(name)[1].lower() or "none" for name in sorted(set(files).difference(audio)))
    return sorted(found)


def map_files(function: Callable, names: Sequence[str], workers: int, title: str) -> Iterator[Tuple[str, object]]:
    """(name, function(name)) of every file in their order, by several threads, with a progress bar.

    Raises:
        UserError: there are no workers.
    """
    if workers < 1:
        raise UserError(f"--workers must be >= 1, but is {workers}")
    with ThreadPoolExecutor(workers) as pool:
        yield from zip(names, progress(pool.map(function, names), len(names), title, "files"))


def read_headers(root, names: Sequence[str], workers: int = WORKERS) -> Iterator[Tuple[str, Union[AudioInfo, str]]]:
    """(name, what its header says, or the reason why it cannot be used), in the order of `names`."""
    yield from map_files(lambda name: _header_of(os.path.join(root, name)), names, workers, "scan")


def usable(root, names: Sequence[str], collection: Collection, workers: int = WORKERS) -> Dict[str, AudioInfo]:
    """Headers of the files that can be used; the others are left out in `collection`."""
    infos = {}
    for name, result in read_headers(root, names, workers):
        if isinstance(result, str):
            collection.leave_out("unusable audio", f"{name} ({result})")
        else:
            infos[name] = result
    return infos


def _header_of(path):
    if parse_audio_path(path).length is not None:
        return "its name reads as a piece of a file; rename it"
    try:
        return read_header(path, check_samples=True)
    except AudioError as error:
        return str(error).split(": ", 1)[1]
