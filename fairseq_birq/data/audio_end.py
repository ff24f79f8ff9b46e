"""Whether an audio file ends where its header says: libsndfile plays what is there of most formats without a word."""

import os
import re
import struct
from typing import BinaryIO, Optional, Tuple

_STREAMED = (0, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)  # what a writer that could not go back leaves as the length
_W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
_W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
_OGG_PAGE_BYTES = 65307  # the longest page there can be
_NOTHING = "its header ends before any audio"


def missing_end(file: BinaryIO) -> Optional[str]:
    """What is wrong with the end of an audio file, or None. `file` is left at its beginning.

    Formats that say how long they are: WAV (RIFF, RIFX, RF64), W64, AIFF, AU, CAF, NIST SPHERE; Ogg (Vorbis, Opus) marks its
    last page. FLAC and MP3 are not looked at: decoding their last sample finds them cut short. A length of a stream whose
    writer did not know it says nothing.
    """
    size, _ = file.seek(0, os.SEEK_END), file.seek(0)
    head, _ = file.read(16), file.seek(0)
    find_audio = next((find for magic, find in _FORMATS if head.startswith(magic)), None)
    if find_audio is None:
        return None
    try:
        start, length = find_audio(file, size)
    except (_NoEnd, struct.error) as error:
        return f"truncated, {error if isinstance(error, _NoEnd) else 'inside its header'}"
    finally:
        file.seek(0)
    if length in _STREAMED or start + length <= size:
        return None
    return f"truncated, {max(size - start, 0)} of {length} bytes of audio are there"


class _NoEnd(Exception):
    """There is no place where the audio begins, or none where it ends."""


def _chunks(file, size, start, header, pad_to=2):
    """(name, where its content begins, its length) of the chunks of a file, a 64-bit length where the header has one."""
    place, header_bytes = start, struct.calcsize(header)
    while place + header_bytes <= size:
        file.seek(place)
        name, length = struct.unpack(header, file.read(header_bytes))
        yield name, place + header_bytes, length
        place += header_bytes + length + (-length % pad_to)


def _riff(file, size) -> Tuple[int, int]:
    order = ">" if file.read(4) == b"RIFX" else "<"
    long_length = None
    for name, start, length in _chunks(file, size, 12, f"{order}4sI"):
        if name == b"ds64":
            file.seek(start + 8)
            long_length = struct.unpack("<Q", file.read(8))[0]
        if name == b"data":
            return start, long_length if length == 0xFFFFFFFF and long_length else length
    raise _NoEnd(_NOTHING)


def _w64(file, size):
    place = 40
    while place + 24 <= size:
        file.seek(place)
        name, length = struct.unpack("<16sQ", file.read(24))
        if name == _W64_DATA:
            return place + 24, length - 24
        place += max(length + (-length % 8), 24)
    raise _NoEnd(_NOTHING)


def _aiff(file, size):
    return _chunk_of(b"SSND", _chunks(file, size, 12, ">4sI"))


def _caf(file, size):
    return _chunk_of(b"data", _chunks(file, size, 8, ">4sQ", pad_to=1))


def _chunk_of(wanted, chunks):
    for name, start, length in chunks:
        if name == wanted:
            return start, length
    raise _NoEnd(_NOTHING)


def _au(file, size):
    _, start, length = struct.unpack(">4sII", file.read(12))
    return start, length


def _sphere(file, size):
    header = file.read(1024).decode("latin-1")
    numbers = dict(re.findall(r"^(\w+) -i (\d+)", header, re.MULTILINE))
    wanted = [int(numbers.get(key, 0)) for key in ("sample_count", "sample_n_bytes", "channel_count")]
    return 1024, wanted[0] * wanted[1] * max(wanted[2], 1)


def _ogg(file, size):
    """The last page says that it is the last one, and is whole (RFC 3533, section 6)."""
    file.seek(max(0, size - _OGG_PAGE_BYTES))
    tail = file.read()
    page = tail.rfind(b"OggS")
    if page < 0 or len(tail) < page + 27 or not tail[page + 5] & 4:
        raise _NoEnd("its last Ogg page is missing")
    body = page + 27 + tail[page + 26]
    return size - len(tail) + body, sum(tail[page + 27 : body])


_FORMATS = (
    (b"RIFF", _riff),
    (b"RIFX", _riff),
    (b"RF64", _riff),
    (_W64_RIFF, _w64),
    (b"FORM", _aiff),
    (b"caff", _caf),
    (b".snd", _au),
    (b"NIST_1A", _sphere),
    (b"OggS", _ogg),
)
