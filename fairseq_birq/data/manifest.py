"""fairseq's `.tsv` manifests: line 1 is the root folder, then `path<TAB>num_samples` per utterance.

A relative root, `.` among them, counts from the folder that holds the manifest. A path may name a piece of a file or a file
in a zip, see `audio_paths`. One that is not absolute must stay below the root.
"""

import hashlib
import os
from array import array
from pathlib import Path
from typing import Iterable, List, Sequence, Tuple

import numpy as np

from fairseq_birq.data.audio_paths import parse_audio_path
from fairseq_birq.errors import UserError


class Manifest:
    """Rows of a manifest, about 16 bytes each besides their paths (millions of rows fit in memory).

    num_samples: (rows,) int64, at each file's own sample rate
    """

    def __init__(self, path: Path, root: str, names: bytes, name_ends: np.ndarray, num_samples: np.ndarray):
        self.path = Path(path)
        self.root = root
        self.num_samples = num_samples
        self._names = names
        self._name_ends = name_ends

    def __len__(self):
        return len(self.num_samples)

    def name(self, index: int) -> str:
        """Path of an audio file as the manifest writes it."""
        start = self._name_ends[index - 1] if index else 0
        return os.fsdecode(self._names[start : self._name_ends[index]])

    def audio_path(self, index: int) -> str:
        return os.path.join(self.root, self.name(index))

    def fingerprint(self) -> str:
        """SHA-256 of all paths and sample counts in their order, not of the root: a corpus may move."""
        digest = hashlib.sha256(self._names)
        for numbers in (self._name_ends, self.num_samples):
            digest.update(np.ascontiguousarray(numbers, dtype="<i8").tobytes())
        return digest.hexdigest()


def read_manifest(path) -> Manifest:
    """Read and check a `.tsv` manifest.

    Raises:
        UserError: the file is missing, has no rows, or a row is malformed, repeats a path or leaves the root; names file
            and line.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such manifest; make one with `birq-manifest FOLDER {path.parent}`")
    names, ends, counts, hashes = bytearray(), array("q"), array("q"), array("q")
    with open(path, "rb") as file:
        root = _parse_root(file.readline(), path)
        for number, line in _rows(file, path):
            name, count = _parse_row(line, path, number)
            names += name
            ends.append(len(names))
            counts.append(count)
            hashes.append(hash(name))
    if not counts:
        raise UserError(f"{path}: has no rows; make it again with `birq-manifest FOLDER {path.parent}`")
    manifest = Manifest(path, root, bytes(names), _int64(ends), _int64(counts))
    _refuse_duplicates(manifest, _int64(hashes))
    return manifest


def write_manifest(path, root: str, rows: Iterable[Tuple[str, int]]) -> None:
    """Write `(path, num_samples)` rows; the file appears whole or not at all."""
    write_lines(path, [str(root)] + [f"{name}\t{count}" for name, count in rows])


def write_lines(path, lines: Iterable[str]) -> None:
    """Write a text file through a temporary one beside it, so that no reader sees half of it."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            file.writelines(f"{line}\n" for line in lines)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def split_rows(names: Sequence[str], valid_fraction: float, seed: int = 1) -> Tuple[List[int], List[int]]:
    """Indices of the training and validation rows.

    Rows are ranked by a hash of seed and name, so the split depends on neither order nor platform. With two rows
    or more and a fraction above 0, neither part is empty.
    """
    num_valid = round(valid_fraction * len(names))
    if valid_fraction > 0 and len(names) > 1:
        num_valid = min(max(num_valid, 1), len(names) - 1)
    ranked = sorted(range(len(names)), key=lambda index: _rank(names[index], seed))
    return sorted(ranked[num_valid:]), sorted(ranked[:num_valid])


def read_labels(path, expected_lines: int) -> List[str]:
    """Lines of a label file that runs parallel to a manifest's rows.

    Raises:
        UserError: the file is missing or has another number of lines.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such label file; it needs one line per row of the manifest")
    with open(path, encoding="utf-8") as file:
        lines = [line.rstrip("\r\n") for line in file]
    if len(lines) != expected_lines:
        raise UserError(
            f"{path}: has {len(lines)} lines, but the manifest beside it has {expected_lines} rows; "
            "make both again from the same data"
        )
    return lines


def _parse_root(line, path):
    root = os.fsdecode(line.strip())
    if not root or "\t" in root:
        raise UserError(f"{path}, line 1: must be the root folder of the audio files, but is {root!r}")
    return os.path.normpath(os.path.join(path.parent.absolute(), root))


def _rows(file, path):
    """(line number, line) without line ends; empty lines may only be the last ones."""
    empty = None
    for number, line in enumerate(file, start=2):
        line = line.rstrip(b"\r\n")
        if not line:
            empty = empty or number
        elif empty:
            raise UserError(f"{path}, line {empty}: is empty, but rows follow; remove it")
        else:
            yield number, line


def _parse_row(line, path, number):
    fields = line.split(b"\t")
    if len(fields) != 2 or not fields[0]:
        raise UserError(f"{path}, line {number}: must be `path<TAB>num_samples`, but is {os.fsdecode(line)!r}")
    name, count = fields[0], fields[1].strip()
    if not count.isdigit():
        raise UserError(
            f"{path}, line {number}: the number of samples must be a whole number >= 0, but is {os.fsdecode(count)!r}"
        )
    if b".." in name or b":" in name:
        _check_place(os.fsdecode(name), int(count), f"{path}, line {number}")
    return name, int(count)


def _check_place(name, count, where):
    place = parse_audio_path(name)
    if place.is_segment and place.length != count:
        raise UserError(f"{where}: the segment {name} has {place.length} samples, but the row says {count}")
    if os.path.normpath(name).split(os.sep)[0] == os.pardir:
        raise UserError(
            f"{where}: {name} is outside the root folder; write an absolute path, or name a folder above as the root"
        )


def _refuse_duplicates(manifest, hashes):
    order = np.argsort(hashes, kind="stable")
    for place in np.flatnonzero(np.diff(hashes[order]) == 0):
        first, second = int(order[place]), int(order[place + 1])
        if manifest.name(first) == manifest.name(second):
            raise UserError(
                f"{manifest.path}, line {second + 2}: repeats the path of line {first + 2}, {manifest.name(first)}; "
                "remove one of the two"
            )


def _rank(name, seed):
    return hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogateescape")).digest()


def _int64(values):
    return np.frombuffer(values, dtype=np.int64) if values else np.zeros(0, dtype=np.int64)
