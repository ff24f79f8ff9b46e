"""Long manifests on disk: an index beside the `.tsv`, built once, from which single rows are read.

A file of four parts: all paths one after the other; where each ends, and its sample count, (rows,) int64 each; what the
index was made of, as JSON. It is used as long as the manifest is what it was made of: the same file by size, inode and
times of change, or else by its SHA-256. Where the manifest's folder is read-only it lies in the user's cache folder.
"""

import hashlib
import json
import logging
import mmap
import os
import struct
from pathlib import Path
from typing import List, Optional

import numpy as np

from fairseq_birq.data.files import file_sha256, written_whole
from fairseq_birq.data.manifest_rows import Columns, parse_root, row_blocks
from fairseq_birq.errors import UserError

logger = logging.getLogger(__name__)

FORMAT = 1
_TRAILER = struct.Struct("<Q8s")  # length of the JSON, and what kind of file this is
_MAGIC = b"birqidx\n"
_CLOCK_TICK_NS = 2 * 10**9  # a file that changes twice within a tick of its file system's clock has one time of change


class IndexedRows:
    """Rows of an index. One row is read by its place, so that a process that reads many keeps none of them.

    Raises:
        ValueError, OSError: the file is no whole index.
    """

    def __init__(self, path):
        self.path = Path(path)
        self._file = open(path, "rb")
        size = os.fstat(self._file.fileno()).st_size
        json_size, magic = _TRAILER.unpack(self._read(size - _TRAILER.size, _TRAILER.size))
        if magic != _MAGIC:
            raise ValueError("no index")
        self.info = json.loads(self._read(size - _TRAILER.size - json_size, json_size))
        self._rows, self._ends_at = self.info["rows"], self.info["names_bytes"] + -self.info["names_bytes"] % 8
        self._counts_at = self._ends_at + 8 * self._rows
        if self.info["format"] != FORMAT or self._counts_at + 8 * self._rows + json_size + _TRAILER.size != size:
            raise ValueError("another format or a cut file")
        self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)

    def __len__(self):
        return self._rows

    def __reduce__(self):
        return _reopen, (self.path, self.info)  # neither files nor memory maps travel between processes

    @property
    def num_samples(self) -> np.ndarray:
        return np.frombuffer(self._map, np.dtype("<i8"), self._rows, self._counts_at)

    def name(self, index: int) -> bytes:
        if index:
            start, end = struct.unpack("<qq", self._read(self._ends_at + 8 * (index - 1), 16))
        else:
            start, (end,) = 0, struct.unpack("<q", self._read(self._ends_at, 8))
        return self._read(start, end - start)

    def count(self, index: int) -> int:
        return struct.unpack("<q", self._read(self._counts_at + 8 * index, 8))[0]

    def fingerprint(self) -> str:
        return self.info["fingerprint"]

    def _read(self, offset, size) -> bytes:
        data = os.pread(self._file.fileno(), size, offset)
        if len(data) < size:
            raise ValueError("a cut file")
        return data


def open_index(path: Path) -> Optional[IndexedRows]:
    """The index of a manifest, built where there is none; None where none can be written.

    Raises:
        UserError: the manifest is wrong.
    """
    for place in _places(path):
        rows = _open_current(place, path)
        if rows is not None:
            return rows
    for place in _places(path):
        try:
            logger.info(f"{path}: making its index {place}, once")
            _build(place, path)
            return IndexedRows(place)
        except OSError as error:
            logger.info(f"{place}: cannot be written ({error})")
    logger.warning(f"{path}: stays in the memory of every process, since there is no place to write its index")
    return None


def _places(path) -> List[Path]:
    hidden = f".{path.name}.index"
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # there is no home
        return [path.with_name(hidden)]
    folder = hashlib.sha256(os.fsencode(path.parent.absolute())).hexdigest()[:16]
    return [path.with_name(hidden), cache / "fairseq_birq" / folder / hidden]


def _open_current(place, path) -> Optional[IndexedRows]:
    """The index if it is whole and of this manifest."""
    try:
        rows = IndexedRows(place)
        made_ns = os.stat(place).st_mtime_ns
    except (OSError, ValueError, KeyError, struct.error):
        return None
    stamp = _stamp(path)
    if stamp == rows.info["stamp"] and made_ns - max(stamp["changed_ns"], stamp["touched_ns"]) > _CLOCK_TICK_NS:
        return rows
    if file_sha256(path) != rows.info["sha256"]:
        return None
    _touch(place)
    return rows


def _touch(place):
    try:
        os.utime(place)
    except OSError:
        pass  # then it is compared by SHA-256 the next time too


def _stamp(path) -> dict:
    stat = os.stat(path)
    return {"size": stat.st_size, "inode": stat.st_ino, "changed_ns": stat.st_mtime_ns, "touched_ns": stat.st_ctime_ns}


def _build(place, path) -> None:
    before, sha256 = _stamp(path), file_sha256(path)
    with open(path, "rb") as manifest, written_whole(place) as file:
        parse_root(manifest.readline(), path)
        info = _write_rows(file, row_blocks(manifest, path), path)
        if _stamp(path) != before:
            raise UserError(f"{path}: was changed while its index was made; start again")
        encoded = json.dumps({**info, "format": FORMAT, "sha256": sha256, "stamp": before}).encode()
        file.write(encoded + _TRAILER.pack(len(encoded), _MAGIC))


def _write_rows(file, blocks, path) -> dict:
    columns, digest = Columns(), hashlib.sha256()
    for block in blocks:
        names = columns.add(block)
        file.write(names)
        digest.update(names)
    file.flush()
    ends = columns.ends

    def name(row):
        start = int(ends[row - 1]) if row else 0
        return os.pread(file.fileno(), int(ends[row]) - start, start)

    columns.refuse_duplicates(name, path)
    file.write(bytes(-columns.names_bytes % 8))
    for numbers in (ends, columns.counts):
        encoded = numbers.astype("<i8", copy=False)
        digest.update(encoded.data)
        file.write(encoded)
    return {"rows": len(ends), "names_bytes": columns.names_bytes, "fingerprint": digest.hexdigest()}


def _reopen(path, info) -> IndexedRows:
    """In another process.

    Raises:
        UserError: the index is of another content by now.
    """
    rows = IndexedRows(path)
    if rows.info["fingerprint"] != info["fingerprint"]:
        raise UserError(f"{path}: was made again of a manifest that changed during the run; start the run again")
    return rows
