"""A file of transcripts, `path<TAB>text` per line; the path with or without folders and suffix."""

import unicodedata
from pathlib import Path
from typing import List, Optional

from fairseq_birq.data.text import text_lines
from fairseq_birq.errors import UserError


class Transcripts:
    """Texts by the path of their audio: `a/b.flac`, `a/b` or `b`, whichever the file uses.

    Names are equal in any Unicode form: macOS decomposes the letters of file names.

    Raises:
        UserError: the file is missing, empty or not UTF-8, or a line has no tab, repeats a path, or has a `|` in its text.
    """

    def __init__(self, path):
        self.path = Path(path)
        self._texts = {}
        self._taken = {}
        for number, line in text_lines(self.path, "file of transcripts"):
            if line.strip():
                self._add(line, f"{self.path}, line {number}")
        if not self._texts:
            raise UserError(f"{self.path}: has no transcripts; lines must be `path<TAB>text`")

    def pop(self, audio: str) -> Optional[str]:
        """Text of an audio file, None if there is none.

        Raises:
            UserError: two audio files answer to one line.
        """
        whole = Path(audio)
        for key in map(_one_form, (whole.as_posix(), whole.with_suffix("").as_posix(), whole.stem)):
            if key in self._texts:
                if key in self._taken:
                    raise UserError(
                        f"{self.path}: {key} could mean {self._taken[key]} or {audio}; write the path with its folders"
                    )
                self._taken[key] = audio
                return self._texts[key]
        return None

    def unused(self) -> List[str]:
        """Paths to which no audio file answered."""
        return [key for key in self._texts if key not in self._taken]

    def _add(self, line, where):
        key, tab, text = line.partition("\t")
        key = _one_form(key)
        if not tab:
            raise UserError(f"{where}: must be `path<TAB>text`, but is {line!r}")
        if key in self._texts:
            raise UserError(f"{where}: repeats {key}; remove one of the two lines")
        if "|" in text:
            raise UserError(f"{where}: the text holds `|`, which stands for the end of a word; remove it")
        self._texts[key] = " ".join(text.split())


def _one_form(name: str) -> str:
    return unicodedata.normalize("NFC", name)
