"""Copies of a corpus' audio as FLAC under names of our own: the same samples, 16 bit.

A WAV that has fewer samples than its header says is taken as it is, and counted: some of Mboshi's are so in the repository.
"""

import os
from pathlib import Path
from typing import Dict, List, NamedTuple, Union

import soundfile

from fairseq_birq.corpora.helpers.collection import Collection
from fairseq_birq.corpora.helpers.scanning import WORKERS, map_files
from fairseq_birq.data.audio import AudioError, AudioInfo, read_header
from fairseq_birq.data.audio_end import missing_end
from fairseq_birq.data.files import written_whole


class Copies(NamedTuple):
    infos: Dict[str, AudioInfo]  # name -> what the copy holds, in the order of the originals
    short: List[str]  # names whose original says that it has more samples


class Copy(NamedTuple):
    info: AudioInfo
    is_short: bool


def copy_all(originals: Dict[str, Path], out, collection: Collection, workers: int = WORKERS) -> Copies:
    """Copy each original to `out`/<name>; a copy that is as long as its original is not made again.

    originals: name of the copy, as speaker/000001.flac -> audio file
    collection: counts the originals that cannot be read
    """
    copies = Copies({}, [])
    for name, result in map_files(lambda name: _copy(originals[name], Path(out) / name), list(originals), workers, "copy"):
        if isinstance(result, str):
            collection.leave_out("unusable audio", f"{originals[name]} ({result})")
            continue
        copies.infos[name] = result.info
        if result.is_short:
            copies.short.append(name)
    return copies


def _copy(original: Path, target: Path) -> Union[Copy, str]:
    """The copy, or why there is none."""
    try:
        samples, rate = soundfile.read(os.fsencode(original), dtype="int16", always_2d=True)
        with open(original, "rb") as file:
            copy = Copy(AudioInfo(len(samples), rate, samples.shape[1]), missing_end(file) is not None)
    except (soundfile.SoundFileError, OSError) as error:
        return f"not readable as audio: {error}"
    if not len(samples):
        return "holds no samples"
    if not _is_copy(target, copy.info):
        with written_whole(target) as file:
            soundfile.write(file, samples, rate, format="FLAC", subtype="PCM_16")
    return copy


def _is_copy(target: Path, info: AudioInfo) -> bool:
    try:
        return read_header(str(target), check_samples=True) == info
    except AudioError:  # not there, or not whole
        return False
