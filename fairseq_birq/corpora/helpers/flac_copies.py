"""Copies of a corpus' audio as FLAC under names of our own: the same samples, 16 bit."""

from pathlib import Path
from typing import Dict, Union

import soundfile

from fairseq_birq.corpora.helpers.collection import Report
from fairseq_birq.corpora.helpers.scanning import WORKERS, map_files
from fairseq_birq.data.audio import AudioError, AudioInfo, probe
from fairseq_birq.data.files import written_whole


def copy_all(sources: Dict[str, Path], out, report: Report, workers: int = WORKERS) -> Dict[str, AudioInfo]:
    """Copy each source to `out`/<name>; a copy that is as long as its source is not made again.

    sources: name of the copy, as speaker/000001.flac -> audio file
    report: counts the sources that cannot be read

    Returns:
        name -> what the copy holds, in the order of `sources`
    """
    infos = {}
    for name, result in map_files(lambda name: _copy(sources[name], Path(out) / name), list(sources), workers, "copy"):
        if isinstance(result, str):
            report.leave_out("unusable audio", result)
        else:
            infos[name] = result
    return infos


def _copy(source: Path, target: Path) -> Union[AudioInfo, str]:
    """What the copy holds, or why there is none."""
    try:
        info = probe(str(source), check_end=True)
        if _is_copy(target, info):
            return info
        samples, rate = soundfile.read(str(source), dtype="int16", always_2d=True)
    except (AudioError, soundfile.SoundFileError) as error:
        return str(error)
    with written_whole(target) as file:
        soundfile.write(file, samples, rate, format="FLAC", subtype="PCM_16")
    return info


def _is_copy(target: Path, info: AudioInfo) -> bool:
    try:
        return probe(str(target), check_end=True) == info
    except AudioError:  # not there, or not whole
        return False
