"""Paths of audio, of a piece of it, or of an audio file inside a zip that is stored without compression.

| path | means |
| --- | --- |
| `a/b.flac` | the whole file |
| `a/b.flac:OFFSET:SAMPLES` | SAMPLES samples from sample OFFSET on, at the file's own rate |
| `a/b.zip:OFFSET:BYTES` | the audio file in these bytes of the zip, fairseq's notation (its `audio_utils.parse_path`) |

What does not end in two numbers is a plain path, colons or not.
"""

import re
from dataclasses import dataclass
from typing import Optional

_PART = re.compile(r"(.+):([0-9]{1,18}):([0-9]{1,18})", re.DOTALL)  # fits 64 bits


@dataclass(frozen=True)
class AudioPath:
    """file: what to open; offset, length: of the part of it, None for the whole."""

    file: str
    offset: int = 0
    length: Optional[int] = None

    @property
    def is_in_zip(self) -> bool:
        return self.length is not None and self.file.lower().endswith(".zip")

    @property
    def is_segment(self) -> bool:
        return self.length is not None and not self.is_in_zip


def parse_audio_path(path: str) -> AudioPath:
    match = _PART.fullmatch(path)
    return AudioPath(path) if match is None else AudioPath(match[1], int(match[2]), int(match[3]))
