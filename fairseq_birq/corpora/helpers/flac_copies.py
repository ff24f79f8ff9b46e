"""Copies of a corpus' audio as FLAC under names of our own: the same samples, 16 bit.

A WAV that has fewer samples than its header says is taken as it is, and counted: some of Mboshi's are so in the repository.
"""

import os
from pathlib import Path
from typing import Dict, List, NamedTuple, Union

import soundfile

from fairseq_birq.corpora.helpers.collection import Report
from fairseq_birq.corpora.helpers.scanning import WORKERS, map_files
from fairseq_birq.data.audio import AudioError, AudioInfo, probe
from fairseq_birq.data.audio_end import missing_end
from fairseq_birq.data.files import written_whole


class Copies(NamedTuple):
    infos: Dict[str, AudioInfo]  # name -> what the copy holds, in the order of the sources
    short: List[str]  # names whose source says that it has more samples


class Copy(NamedTuple):
    info: AudioInfo
    is_short: bool


def copy_all(sources: Dict[str, Path], out, report: Report, workers: int = WORKERS) -> Copies:
    """Copy each source to `out`/<name>; a copy that is as long as its source is not made again.

    sources: name of the copy, as speaker/000001.flac -> audio file
    report: counts the sources that cannot be read
    """
    copies = Copies({}, [])
    for name, result in map_files(lambda name: _copy(sources[name], Path(out) / name), list(sources), workers, "copy"):
        if isinstance(result, str):
            report.leave_out("unusable audio", f"{sources[name]} ({result})")
            continue
        copies.infos[name] = result.info
        if result.is_short:
            copies.short.append(name)
    return copies


def _copy(source: Path, target: Path) -> Union[Copy, str]:
    """The copy, or why there is none."""
    try:
        samples, rate = soundfile.read(os.fsencode(source), dtype="int16", always_2d=True)
        with open(source, "rb") as file:
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
        return probe(str(target), check_samples=True) == info
    except AudioError:  # not there, or not whole
        return False
