"""A recording in pieces of bounded length that end in pauses, overlap nowhere and leave nothing out."""

from typing import Iterator, Tuple

import numpy as np

from fairseq_birq.corpora.helpers.silence import HOP_S, WINDOW_HOPS, quietest_ends
from fairseq_birq.data.audio import read, read_header

MIN_PIECE_S = 4 * WINDOW_HOPS * HOP_S
_BLOCK_S = 60  # read at once to find pauses


def read_pieces(path: str, sample_rate: int, max_seconds: float) -> Iterator[Tuple[int, np.ndarray]]:
    """(first sample, waveform (S,) float32) of every piece, at `sample_rate`; a short recording is one piece.

    max_seconds: of a piece, at least `MIN_PIECE_S`

    Raises:
        AudioError: as in `fairseq_birq.data.audio.read`.
    """
    info, begin = read_header(path), 0
    ends = [-1]
    if info.seconds > max_seconds:
        ends = quietest_ends(*_energies(path, sample_rate), int(max_seconds * sample_rate))[:-1] + [-1]
    for end in ends:
        wave, _ = read(path, sample_rate, begin, -1 if end < 0 else end - begin)
        yield begin, wave
        begin = end


def _energies(path, sample_rate) -> Tuple[np.ndarray, int, int]:
    """Mean squares of hops of 20 ms; samples in a hop; samples in the recording. Reads a minute at a time."""
    hop, block, squares, count = int(HOP_S * sample_rate), _BLOCK_S * sample_rate, [], 0
    while True:
        wave, _ = read(path, sample_rate, count, block)
        if len(wave):
            square = wave.astype(np.float64) ** 2
            starts = np.arange(0, len(wave), hop)
            squares.append(np.add.reduceat(square, starts) / np.diff([*starts, len(wave)]))
        count += len(wave)
        if len(wave) < block:
            return np.concatenate(squares), hop, count
