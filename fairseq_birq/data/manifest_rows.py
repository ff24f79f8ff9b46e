"""The text of a manifest, checked: its root and, in blocks of rows, its paths and sample counts."""

import os
from array import array
from typing import BinaryIO, Callable, Iterator, List, NamedTuple

import numpy as np

from fairseq_birq.data.audio_paths import parse_audio_path
from fairseq_birq.data.text import without_mark
from fairseq_birq.errors import UserError

BLOCK_BYTES = 1 << 22
MAX_DIGITS = 13  # of a sample count: times any sample rate it fits into 64 bits
_NOT_SEPARATORS = bytes(set(range(256)) - set(b"\t\n"))


class RowBlock(NamedTuple):
    names: List[bytes]
    counts: List[int]


def parse_root(line: bytes, path) -> str:
    """The absolute root folder that the first line of a manifest at `path` means."""
    root = os.fsdecode(without_mark(line).strip())
    if not root or "\t" in root:
        raise UserError(f"{path}, line 1: must be the root folder of the audio files, but is {root!r}")
    return os.path.normpath(os.path.join(path.parent.absolute(), root))


def row_blocks(file: BinaryIO, path) -> Iterator[RowBlock]:
    """All rows after the root line; empty lines may only be the last ones.

    Raises:
        UserError: a row is malformed or leaves the root, or there are none; names file and line.
    """
    line_number, empty, rest = 2, None, b""
    for text in iter(lambda: file.read(BLOCK_BYTES), b""):
        head, newline, rest = (rest + text).rpartition(b"\n")
        line_number, empty = yield from _parse(head + newline, path, line_number, empty)
    line_number, empty = yield from _parse(rest + b"\n" if rest else b"", path, line_number, empty)
    if line_number == 2:
        raise UserError(f"{path}: has no rows; make it again with `birq-manifest FOLDER {path.parent}`")


def _parse(text, path, line_number, empty):
    """Yield the block of whole lines; return the number of the next line with a row, and that of the first empty one."""
    if not text:
        return line_number, empty
    block = _parse_regular(text) if empty is None else None
    if block is None:
        block, empty = _parse_lines(text, path, line_number, empty)
    if b".." in text or b":" in text:
        for row, (name, count) in enumerate(zip(*block)):
            _check_place(os.fsdecode(name), count, f"{path}, line {line_number + row}")
    if block.names:
        yield block
    return line_number + len(block.names), empty


def _parse_regular(text):
    """A block in which every line is `path<TAB>digits`, quickly; None if it is not like that."""
    fields = text.replace(b"\n", b"\t").split(b"\t")
    names, counts = fields[:-1:2], fields[1::2]
    if b"\r" in text or text.translate(None, _NOT_SEPARATORS) != b"\t\n" * len(names):
        return None
    if not (all(names) and all(map(bytes.isdigit, counts)) and max(map(len, counts)) <= MAX_DIGITS):
        return None
    return RowBlock(names, list(map(int, counts)))


def _parse_lines(text, path, line_number, empty):
    """The same line by line, which finds out what is wrong."""
    block = RowBlock([], [])
    for number, line in enumerate(text.split(b"\n")[:-1], start=line_number):
        line = line.rstrip(b"\r")
        if not line:
            empty = empty or number
        elif empty:
            raise UserError(f"{path}, line {empty}: is empty, but rows follow; remove it")
        else:
            name, count = _parse_row(line, f"{path}, line {number}")
            block.names.append(name)
            block.counts.append(count)
    return block, empty


def _parse_row(line, where):
    fields = line.split(b"\t")
    if len(fields) != 2 or not fields[0]:
        raise UserError(f"{where}: must be `path<TAB>num_samples`, but is {os.fsdecode(line)!r}")
    count = fields[1].strip()
    if not count.isdigit() or len(count) > MAX_DIGITS:
        raise UserError(
            f"{where}: the number of samples must be a whole number >= 0 of at most {MAX_DIGITS} digits, but is "
            f"{os.fsdecode(count[:30])!r}"
        )
    return fields[0], int(count)


def _check_place(name, count, where):
    place = parse_audio_path(name)
    if place.is_segment and place.length != count:
        raise UserError(f"{where}: the segment {name} has {place.length} samples, but the row says {count}")
    if ".." in name and os.path.normpath(name).split(os.sep)[0] == os.pardir:
        raise UserError(f"{where}: {name} is outside the root folder; write an absolute path, or name a folder above as the root")


class Columns:
    """Numbers of rows that come in blocks: where their paths end when joined, sample counts, hashes of the paths."""

    def __init__(self):
        self._ends, self._counts, self._hashes, self.names_bytes = array("q"), array("q"), array("q"), 0

    def add(self, block: RowBlock) -> bytes:
        """The block's paths, joined."""
        ends = self.names_bytes + np.cumsum(np.fromiter(map(len, block.names), np.int64))
        self._ends.frombytes(ends.tobytes())
        self._counts.frombytes(np.array(block.counts, np.int64).tobytes())
        self._hashes.frombytes(np.fromiter(map(hash, block.names), np.int64).tobytes())
        self.names_bytes = int(ends[-1])
        return b"".join(block.names)

    @property
    def ends(self) -> np.ndarray:
        return np.frombuffer(self._ends, np.int64)

    @property
    def counts(self) -> np.ndarray:
        return np.frombuffer(self._counts, np.int64)

    def refuse_duplicates(self, name: Callable[[int], bytes], path) -> None:
        """name: the path of a row.

        Raises:
            UserError: two rows have the same path.
        """
        hashes = np.frombuffer(self._hashes, np.int64)
        order = np.argsort(hashes, kind="stable")
        for place in np.flatnonzero(np.diff(hashes[order]) == 0):
            first, second = int(order[place]), int(order[place + 1])
            if name(first) == name(second):
                raise UserError(
                    f"{path}, line {second + 2}: repeats the path of line {first + 2}, {os.fsdecode(name(first))}; "
                    "remove one of the two"
                )
