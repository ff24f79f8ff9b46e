"""Speed perturbation (Ko et al. 2015, Interspeech, "Audio augmentation for speech recognition"): faster is shorter and higher."""

from typing import Optional, Sequence

import numpy as np

from fairseq_birq.errors import UserError

SLOWEST, FASTEST = 0.5, 2.0
_GOLDEN, _MIX = 0x9E3779B97F4A7C15, (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_STREAM = 1  # of the random numbers of (seed, epoch, id)


class Speeds:
    """One of some speeds for every utterance and epoch, drawn evenly by (seed, epoch, id) alone.

    So a length is known before a file is read, the same one in every process and in a run that goes on.

    Raises:
        UserError: a speed is out of bounds, or there is none.
    """

    def __init__(self, factors: Sequence[float], seed: int):
        self.factors, self.seed = np.array(list(factors), dtype=np.float64), seed
        if not len(self.factors) or not ((self.factors >= SLOWEST) & (self.factors <= FASTEST)).all():
            raise UserError(f"`task.speeds` must be numbers from {SLOWEST:g} to {FASTEST:g}, but is {list(factors)}")

    @classmethod
    def build(cls, factors: Sequence[float], seed: int, frame_labels=None) -> Optional["Speeds"]:
        """None where every speed is 1. Raises UserError for speeds beside frame labels (a `LabelStore`)."""
        speeds = cls(factors, seed)
        if (speeds.factors == 1).all():
            return None
        if frame_labels is not None:
            raise UserError(
                f"`task.speeds` is {list(factors)}, which changes the frames that an utterance has, but the labels in "
                f"{frame_labels.folder} are of the frames at speed 1; set task.speeds=[1.0]"
            )
        return speeds

    def of(self, ids, epoch: int) -> np.ndarray:
        """(N,) float64, or () of one id. ids: (N,) int64 or int."""
        state = np.zeros((), dtype=np.uint64)
        with np.errstate(over="ignore"):
            for part in (self.seed, epoch, _STREAM):
                state = _mixed(state * np.uint64(_GOLDEN) + np.uint64(part + 1))
            state = _mixed(state + np.asarray(ids).astype(np.uint64) * np.uint64(_GOLDEN))
        drawn = (state >> np.uint64(11)).astype(np.float64) * 2.0**-53  # in [0, 1)
        return self.factors[(drawn * len(self.factors)).astype(np.int64)]

    def heard(self, rates, ids, epoch: int):
        """Hz at which files of such rates are taken to be: faster ones hold more samples a second. int64."""
        return np.rint(rates * self.of(ids, epoch)).astype(np.int64)

    def fastest(self, rates):
        return np.rint(rates * self.factors.max()).astype(np.int64)


def _mixed(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(_MIX[0])
    x = (x ^ (x >> np.uint64(27))) * np.uint64(_MIX[1])
    return x ^ (x >> np.uint64(31))
