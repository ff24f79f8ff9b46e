"""Audio files and parts of them: what they hold, and their samples as mono float32 at the wanted rate.

A path may name a piece of a file or a file in a zip, see `audio_paths`; all that is said here of a file is then said of that.
"""

import io
import math
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
CANCELLED = 0.01  # share of the channels' power that their mean has; of a hundred channels of independent noise it has as much
JUDGED_S = 2.0  # in the middle of a file, by which it is judged
CONTEXT_S = 0.05  # on both sides of a piece that is resampled; the filter is shorter


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


def read_header(path: str, check_samples: bool = False) -> AudioInfo:
    """What the header of an audio file says.

    check_samples: also decode the last sample, which finds files that were cut short, and look whether channels cancel.

    Raises:
        AudioError: the file is missing, unreadable, holds no samples, or (check_samples) ends early or its channels cancel.
    """
    with _opened(path) as (file, samples):
        if check_samples:
            _decode(file, path, samples[-1], 1)
            _check_channels(file, path, samples)
        return AudioInfo(len(samples), file.samplerate, file.channels)


def read(
    path: str,
    sample_rate: int,
    offset: int = 0,
    num_samples: int = -1,
    file_rate: Optional[int] = None,
    heard_rate: Optional[int] = None,
) -> Tuple[np.ndarray, int]:
    """Samples of an audio file as the mean of its channels, resampled if its rate is another one.

    A piece is that piece of the whole: what is read depends on the file, never on where the piece begins.

    sample_rate: Hz, of the result; offset and num_samples count in samples at this rate
    num_samples: length of the result at most; -1 reads to the end
    file_rate: Hz that the file must have; None: any
    heard_rate: Hz that its samples are taken to have, which changes the speed; None: the file's

    Returns:
        wave: (S,) float32; [-1, 1] for integer formats
        file_frames: samples per channel in the whole file, at its own rate

    Raises:
        AudioError: as in `read_header` with check_samples, the samples are not finite, or the file has a different rate.
    """
    with _opened(path) as (file, samples):
        rate, file_frames = file.samplerate, len(samples)
        if file_rate not in (None, rate):
            raise AudioError(
                f"{path}: is at {rate} Hz where its manifest's files are at {file_rate} Hz; make the manifest again with "
                "birq-manifest, which notes each file's rate"
            )
        _check_channels(file, path, samples)
        rate = heard_rate or rate
        begin, end, skipped = _span(rate, sample_rate, offset, num_samples, file_frames)
        wave = _decode(file, path, samples.start + begin, end - begin).mean(axis=1)
    if not np.isfinite(wave).all():
        raise AudioError(f"{path}: holds samples that are not finite (NaN or infinity)")
    if rate != sample_rate:
        wave = soxr.resample(wave, rate, sample_rate)[skipped:]
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
        if file.tell() != start:
            file.seek(start)
        wave = file.read(count, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioError(f"{path}: truncated or damaged ({_reason(error)})") from error
    if len(wave) < count:
        raise AudioError(f"{path}: truncated, {start + len(wave)} of {file.frames} samples are there")
    return wave


def _span(rate, sample_rate, offset, num_samples, file_frames) -> Tuple[int, int, int]:
    """First sample to decode and the one after the last; samples to skip after resampling.

    A piece at a different rate has `CONTEXT_S` on both sides and begins where both rates have a sample, so that resampling it
    gives what resampling the whole file does.
    """
    if rate == sample_rate:
        begin, skipped, context = offset, 0, 0
    else:
        common, context = math.gcd(rate, sample_rate), math.ceil(CONTEXT_S * sample_rate)
        steps = max(0, offset - context) * common // sample_rate
        begin, skipped = steps * rate // common, offset - steps * sample_rate // common
    end = file_frames if num_samples < 0 else min(file_frames, -(-(offset + num_samples + context) * rate // sample_rate))
    return min(begin, end), end, skipped


def _check_channels(file, path, samples: range) -> None:
    """Raises AudioError where the mean of the channels is next to nothing, in the middle of the file."""
    if file.channels == 1:
        return
    count = min(len(samples), int(JUDGED_S * file.samplerate))
    channels = _decode(file, path, samples.start + (len(samples) - count) // 2, count)
    mean, power = channels.mean(axis=1), np.square(channels).mean()
    if np.square(mean).mean() < CANCELLED * power:
        raise AudioError(
            f"{path}: its channels cancel in their mean, as where one is the other turned over; keep one of them "
            "(sox IN OUT remix 1)"
        )


def _reason(error):
    return getattr(error, "error_string", str(error)).rstrip(".")
