"""fairseq's `.tsv` manifests: line 1 is the root folder, then `path<TAB>num_samples` per utterance.

A relative root, `.` among them, counts from the folder that holds the manifest. A path may name a piece of a file or a file
in a zip, see `audio_paths`. One that is not absolute must stay below the root.
"""

import hashlib
import os
from pathlib import Path
from typing import Iterable, List, Optional, Sequence, Tuple, Union

import numpy as np

from fairseq_birq.data.files import write_lines
from fairseq_birq.data.manifest_index import IndexedRows, open_index
from fairseq_birq.data.manifest_rows import Columns, parse_root, row_blocks
from fairseq_birq.data.text import text_lines
from fairseq_birq.distributed import first_process_first
from fairseq_birq.errors import UserError

INDEX_FROM_BYTES = 8 << 20  # about 150,000 rows; smaller manifests are parsed and kept in memory


class RowsInMemory:
    """Paths and sample counts, about 16 bytes a row besides the paths."""

    def __init__(self, blocks, path):
        columns = Columns()
        self._names = b"".join(columns.add(block) for block in blocks)
        self._ends, self.num_samples = columns.ends, columns.counts
        columns.refuse_duplicates(self.name, path)

    def __len__(self):
        return len(self.num_samples)

    def name(self, index: int) -> bytes:
        return self._names[self._ends[index - 1] if index else 0 : self._ends[index]]

    def count(self, index: int) -> int:
        return int(self.num_samples[index])

    def fingerprint(self) -> str:
        digest = hashlib.sha256(self._names)
        for numbers in (self._ends, self.num_samples):
            digest.update(np.ascontiguousarray(numbers, dtype="<i8").tobytes())
        return digest.hexdigest()


class Manifest:
    """Rows of a manifest; those of a long one stay on disk, see `manifest_index`.

    num_samples: (rows,) int64, at each file's own sample rate. For a single row, `count` costs a worker no memory.
    """

    def __init__(self, path: Path, root: str, rows: Union[RowsInMemory, IndexedRows]):
        self.path = Path(path)
        self.root = root
        self._rows = rows

    def __len__(self):
        return len(self._rows)

    @property
    def num_samples(self) -> np.ndarray:
        return self._rows.num_samples

    def name(self, index: int) -> str:
        """Path of an audio file as the manifest writes it."""
        return os.fsdecode(self._rows.name(index))

    def count(self, index: int) -> int:
        return self._rows.count(index)

    def audio_path(self, index: int) -> str:
        return os.path.join(self.root, self.name(index))

    def moved(self) -> str:
        """The end of a sentence about files that are not there: what to do where the root folder is not there either."""
        if os.path.isdir(self.root):
            return ""
        return f"; there is no folder {self.root}: if the audio has moved, write its new place into the manifest's first line"

    def fingerprint(self) -> str:
        """SHA-256 of all paths and sample counts in their order, not of the root: a corpus may move."""
        return self._rows.fingerprint()


def read_manifest(path) -> Manifest:
    """Read and check a `.tsv` manifest.

    Raises:
        UserError: the file is missing, has no rows, or a row is malformed, repeats a path or leaves the root; names file
            and line.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder; make manifests of its audio with `birq-manifest {path} OUT`, and name one of them")
    if not path.is_file():
        raise UserError(f"{path}: no such manifest; make one with `birq-manifest FOLDER {path.parent}`")
    indexed = None
    if path.stat().st_size >= INDEX_FROM_BYTES:
        with first_process_first():  # one builds the index, all read it
            indexed = open_index(path)
    with open(path, "rb") as file:
        root = parse_root(file.readline(), path)
        return Manifest(path, root, indexed or RowsInMemory(row_blocks(file, path), path))


def write_manifest(path, root: str, rows: Iterable[Tuple[str, int]]) -> None:
    """Write `(path, num_samples)` rows; the file appears whole or not at all."""
    write_lines(path, [str(root)] + [f"{name}\t{count}" for name, count in rows])


def write_rates(path, rates: Sequence[int]) -> None:
    """Write the sample rates in Hz of a manifest's rows to `<split>.rate`, one a line; no file where all are the same."""
    if len(set(rates)) > 1:
        write_lines(rates_path(path), map(str, rates))
    else:
        rates_path(path).unlink(missing_ok=True)


def read_rates(manifest: "Manifest") -> Optional[np.ndarray]:
    """(rows,) int32 Hz, or None where there is no `<split>.rate`: all files then have the rate of the first.

    Raises:
        UserError: it is not one positive whole number a row.
    """
    path = rates_path(manifest.path)
    if not path.is_file():
        return None
    lines = parallel_lines(path, len(manifest))
    for number, line in enumerate(lines, start=1):
        if not (line.isascii() and line.isdigit() and 0 < int(line[:10]) < 2**31):
            raise UserError(f"{path}:{number}: {line[:40]!r} is no sample rate in Hz; make the manifest again with birq-manifest")
    return np.array(lines, dtype=np.int32)


def rates_path(path) -> Path:
    return Path(path).with_suffix(".rate")


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


def parallel_lines(path, expected_lines: int) -> List[str]:
    """Lines of a file that runs parallel to a manifest's rows.

    Raises:
        UserError: the file is missing, not UTF-8, or has another number of lines.
    """
    lines = [line for _, line in text_lines(path, "file; it needs one line per row of the manifest")]
    if len(lines) != expected_lines:
        raise UserError(
            f"{path}: has {len(lines)} lines, but the manifest beside it has {expected_lines} rows; "
            "make both again from the same data"
        )
    return lines


def _rank(name, seed):
    return hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogateescape")).digest()
