"""Where transcripts go: the terminal, one file, or a file per recording."""

import os
import re
import sys
from pathlib import Path
from typing import List, Optional, Sequence

from fairseq_birq.data.files import written_whole
from fairseq_birq.errors import UserError
from fairseq_birq.tools.transcribe.formats import FORMATS, joined
from fairseq_birq.tools.transcribe.recordings import Recording
from fairseq_birq.tools.transcribe.words import Transcript


def format_of(form: Optional[str], out: Optional[str]) -> str:
    """The format that was asked for, else that of the suffix of `out`, else text. Raises UserError where they differ."""
    suffix = Path(out).suffix[1:] if out else ""
    if form and suffix in FORMATS and suffix != form:
        raise UserError(f"--format {form} and --out {out} name different formats; leave one of them out")
    return form or (suffix if suffix in FORMATS else "txt")


def open_output(form: str, out: Optional[str], recordings: Sequence[Recording]):
    """Something with `write(transcript)` and `close()`.

    out: None for stdout, a file with a format's suffix, or a folder for one file per recording

    Raises:
        UserError: subtitles of several recordings in one file, or two recordings that would have the same file.
    """
    if out and Path(out).suffix[1:] not in FORMATS:
        return _Folder(form, Path(out), recordings)
    if form == "srt" and len(recordings) > 1:
        raise UserError(f"subtitles of {len(recordings)} recordings cannot be one file: name a folder as --out")
    return _OneFile(form, Path(out)) if out else _Stdout(form)


class _Stdout:
    """Text and CTM come as they are made."""

    def __init__(self, form: str):
        self.form, self.parts = form, []

    def write(self, transcript: Transcript) -> None:
        part = FORMATS[self.form](transcript)
        if self.form == "json":
            self.parts.append(part)
        else:
            print(part, end="", flush=True)

    def close(self) -> List[str]:
        if self.form == "json":
            sys.stdout.write(joined(self.parts, self.form))
        return []


class _OneFile:
    def __init__(self, form: str, path: Path):
        self.form, self.path, self.parts = form, path, []

    def write(self, transcript: Transcript) -> None:
        self.parts.append(FORMATS[self.form](transcript))

    def close(self) -> List[str]:
        with written_whole(self.path) as file:
            file.write(joined(self.parts, self.form).encode("utf-8"))
        return [str(self.path)]


class _Folder:
    """A file is there as soon as its recording is done."""

    def __init__(self, form: str, folder: Path, recordings: Sequence[Recording]):
        self.form, self.folder, self.paths = form, folder, {}
        if folder.exists() and not folder.is_dir():
            raise UserError(f"--out {folder} is a file, and of none of the formats {', '.join(FORMATS)}: name a folder")
        taken = {}
        for recording in recordings:
            path = folder / f"{_file_name(recording.name)}.{form}"
            if path in taken:
                raise UserError(f"{taken[path]} and {recording.name} would both be written to {path}; name one file as --out")
            taken[path] = recording.name
            self.paths[recording.name] = path

    def write(self, transcript: Transcript) -> None:
        with written_whole(self.paths[transcript.name]) as file:
            file.write(FORMATS[self.form](transcript).encode("utf-8") + (b"\n" if self.form == "json" else b""))

    def close(self) -> List[str]:
        return [str(self.folder)]


def _file_name(name: str) -> str:
    """`a/b.wav` -> `a/b`; `a/b.wav:0:16000` -> `a/b.wav-0-16000`; the last part of an absolute path or one that goes up."""
    piece = re.fullmatch(r"(.+):([0-9]+):([0-9]+)", name, re.DOTALL)
    name = "-".join(piece.groups()) if piece else os.path.splitext(name)[0]
    return os.path.basename(name) if os.path.isabs(name) or ".." in Path(name).parts else name
