"""Where to cut a long recording: into equal pieces, or at its quietest moments.

Cutting at silence needs no threshold: a piece ends where the sound is quietest between half and the whole of the longest
length, which is a pause wherever there is one. So every sample is in a piece, and the same file gives the same pieces.
"""

from typing import List

import numpy as np
import soundfile

from fairseq_birq.data.audio import AudioError

HOP_S = 0.02
WINDOW_HOPS = 10  # 0.2 s: shorter than a pause between phrases, longer than a stop consonant
BLOCK_HOPS = 3000  # read at once: a minute


def equal_cuts(num_samples: int, max_samples: int) -> List[int]:
    """Ends of the fewest pieces of at most `max_samples` that are equally long, give or take a sample."""
    count = -(-num_samples // max_samples)
    return [num_samples * number // count for number in range(1, count + 1)]


def quiet_cuts(path: str, max_samples: int) -> List[int]:
    """Ends of pieces of at most `max_samples` of an audio file, each at least half as long, the last a quarter.

    Raises:
        AudioError: the file is damaged, or `max_samples` is shorter than 0.8 s.
    """
    energy, hop, num_samples = energies(path)
    if max_samples // hop < 4 * WINDOW_HOPS:
        raise AudioError(f"{path}: pieces must be at least {4 * WINDOW_HOPS * HOP_S} s long")
    return quietest_ends(energy, hop, num_samples, max_samples)


def quietest_ends(energy: np.ndarray, hop: int, num_samples: int, max_samples: int) -> List[int]:
    """The same from the mean squares of hops of `hop` samples, of which `max_samples` are at least 4 * WINDOW_HOPS."""
    longest = max_samples // hop
    loudness = np.convolve(energy, np.ones(WINDOW_HOPS), "valid")  # of the window that begins at each hop
    ends, begin = [], 0
    while num_samples - begin * hop > max_samples:
        first = begin + longest // 2 - WINDOW_HOPS // 2  # so that the window's middle is in the second half
        stop = min(begin + longest, len(energy) - longest // 4)
        window = loudness[first : stop - WINDOW_HOPS // 2]
        begin = first + int(np.argmin(window)) + WINDOW_HOPS // 2
        ends.append(begin * hop)
    return ends + [num_samples]


def energies(path: str):
    """Mean squares of hops of 20 ms over all channels, float64; samples in a hop; samples in the file."""
    try:
        with soundfile.SoundFile(path) as file:
            hop, sums, count = max(int(HOP_S * file.samplerate), 1), [], 0
            for block in file.blocks(BLOCK_HOPS * hop, dtype="float32", always_2d=True):
                count += len(block)
                squares = (block.astype(np.float64) ** 2).mean(axis=1)
                sums.append(np.add.reduceat(squares, np.arange(0, len(squares), hop)))
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioError(f"{path}: not readable as audio ({error})") from None
    return np.concatenate(sums) if sums else np.zeros(0), hop, count
