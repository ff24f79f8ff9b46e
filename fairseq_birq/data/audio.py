"""Audio files and parts of them: what they hold, and their samples as mono float32 at the wanted rate.

A path may name a piece of a file or a file in a zip, see `audio_paths`; all that is said here of a file is then said of that.
"""

import io
import os
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Optional, Tuple

import numpy as np
import soundfile
import soxr

from fairseq_birq.data.audio_end import missing_end
from fairseq_birq.data.audio_paths import AudioPath, parse_audio_path
from fairseq_birq.errors import UserError

SUFFIXES = tuple(".wav .flac .ogg .oga .opus .mp3 .aiff .aif .aifc .sph .au .snd .w64 .rf64 .caf".split())  # libsndfile's
UNKNOWN_LENGTH = 2**62  # libsndfile reports about 2**63 frames for streams whose end it cannot find


class AudioError(UserError):
    """An audio file that cannot be used; the text names it and says why."""


@dataclass(frozen=True)
class AudioInfo:
    num_samples: int  # per channel, at the file's own rate
    sample_rate: int  # Hz
    channels: int

    @property
    def seconds(self) -> float:
        return self.num_samples / self.sample_rate


def probe(path: str, check_end: bool = False) -> AudioInfo:
    """What the header of an audio file says.

    check_end: also decode the last sample, which finds files that were cut short.

    Raises:
        AudioError: the file is missing, unreadable, holds no samples, or (check_end) ends early.
    """
    with _opened(path) as (file, samples):
        if check_end:
            _decode(file, path, samples[-1], 1)
        return AudioInfo(len(samples), file.samplerate, file.channels)


def read(
    path: str, sample_rate: int, offset: int = 0, num_samples: int = -1, file_rate: Optional[int] = None
) -> Tuple[np.ndarray, int]:
    """Samples of an audio file as the mean of its channels, resampled if its rate is another one.

    sample_rate: Hz, of the result; offset and num_samples count in samples at this rate
    num_samples: length of the result at most; -1 reads to the end
    file_rate: Hz that the file must have; None: any

    Returns:
        wave: (S,) float32; [-1, 1] for integer formats
        file_frames: samples per channel in the whole file, at its own rate

    Raises:
        AudioError: as in `probe`, the samples are truncated or not finite, or the file has a different rate.
    """
    with _opened(path) as (file, samples):
        rate, file_frames = file.samplerate, len(samples)
        if file_rate not in (None, rate):
            raise AudioError(
                f"{path}: is at {rate} Hz where its manifest's files are at {file_rate} Hz; make the manifest again with "
                "birq-manifest, which notes each file's rate"
            )
        start = min(offset * rate // sample_rate, file_frames)
        count = file_frames - start
        if num_samples >= 0:
            count = min(count, -(-num_samples * rate // sample_rate))
        wave = _decode(file, path, samples.start + start, count).mean(axis=1)
    if not np.isfinite(wave).all():
        raise AudioError(f"{path}: holds samples that are not finite (NaN or infinity)")
    if rate != sample_rate:
        wave = soxr.resample(wave, rate, sample_rate)
    return (wave if num_samples < 0 else wave[:num_samples]), file_frames


def content(path) -> bytes:
    """The bytes of an audio file, or of the one in a zip that the path names.

    Raises:
        AudioError: it is not there, or not all of it.
    """
    place = parse_audio_path(os.fspath(path))
    _require_file(place, path)
    start, size = (place.offset, place.length) if place.is_in_zip and place.length is not None else (0, -1)
    try:
        with open(place.file, "rb") as file:
            file.seek(start)
            data = file.read(size)
    except OSError as error:
        raise AudioError(f"{path}: not readable ({error})") from error
    if place.is_in_zip and (len(data) < size or not data):
        raise AudioError(f"{path}: truncated, {len(data)} of {size} bytes are there")
    return data


@contextmanager
def _opened(path):
    """An open soundfile and the range of its samples that the path means, at least one."""
    place = parse_audio_path(os.fspath(path))
    _require_file(place, path)
    try:
        whole = io.BytesIO(content(path)) if place.is_in_zip else None
        with nullcontext(whole) if whole else open(place.file, "rb") as opened:
            wrong_end = missing_end(opened)
        if wrong_end:
            raise AudioError(f"{path}: {wrong_end}")
        file = soundfile.SoundFile(whole or os.fsencode(place.file))  # as bytes, so that any name that a disk has will do
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioError(f"{path}: not readable as audio ({_reason(error)})") from error
    with file:
        if not 0 < file.frames < UNKNOWN_LENGTH:
            raise AudioError(f"{path}: holds no samples")
        yield file, _samples(place, path, file.frames)


def _require_file(place: AudioPath, path):
    if not os.path.isfile(place.file):
        raise AudioError(f"{path}: no such file")
    if os.path.getsize(place.file) == 0:
        raise AudioError(f"{path}: the file is empty (0 bytes)")


def _samples(place: AudioPath, path, num_frames) -> range:
    if place.length is None or place.is_in_zip:
        return range(num_frames)
    end = place.offset + place.length
    if place.length == 0 or end > num_frames:
        raise AudioError(f"{path}: samples {place.offset} to {end} are not in the file, which has {num_frames}")
    return range(place.offset, end)


def _decode(file, path, start, count):
    """(count, channels) float32 from sample `start` on."""
    try:
        if start:
            file.seek(start)
        wave = file.read(count, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioError(f"{path}: truncated or damaged ({_reason(error)})") from error
    if len(wave) < count:
        raise AudioError(f"{path}: truncated, {start + len(wave)} of {file.frames} samples are there")
    return wave


def _reason(error):
    return getattr(error, "error_string", str(error)).rstrip(".")
