"""What is to be transcribed: audio files, folders of them, manifests."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import List, Sequence

from fairseq_birq.corpora.helpers.scanning import SUFFIXES, find_audio
from fairseq_birq.data.manifest import read_manifest
from fairseq_birq.errors import UserError


@dataclass(frozen=True)
class Recording:
    name: str  # for people, and for the names of files
    path: str


def find_recordings(arguments: Sequence[str]) -> List[Recording]:
    """In the order of the arguments. A file that is not there is found out where it is read.

    Raises:
        UserError: a folder without audio, a manifest that is none, or nothing at all.
    """
    found = [recording for argument in arguments for recording in _of_argument(str(argument))]
    if not found:
        raise UserError("there is no recording to transcribe")
    return found


def _of_argument(argument) -> List[Recording]:
    if os.path.isdir(argument):
        names = find_audio(argument)
        if not names:
            raise UserError(f"{argument}: no {', '.join(suffix[1:] for suffix in SUFFIXES)} file in it or below it")
        return [Recording(name, os.path.join(argument, name)) for name in names]
    if Path(argument).suffix == ".tsv":
        manifest = read_manifest(Path(argument))
        return [Recording(manifest.name(row), manifest.audio_path(row)) for row in range(len(manifest))]
    return [Recording(argument, argument)]
