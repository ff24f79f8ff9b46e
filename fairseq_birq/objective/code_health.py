"""Numbers that tell whether codes are healthy, and the alarm for those that are not."""

import logging
import math
from typing import Dict, Hashable, Mapping, Tuple

import torch
from torch import Tensor

from fairseq_birq.errors import UserError

logger = logging.getLogger(__name__)


def entropy(histogram: Tensor) -> Tensor:
    """Entropy in nats. histogram: (..., V) counts -> (...); 0 where nothing was counted."""
    probabilities = histogram.double() / histogram.sum(-1, keepdim=True).clamp(min=1)
    return -(probabilities * probabilities.clamp(min=1e-300).log()).sum(-1)


def perplexity(histogram: Tensor) -> Tensor:
    """`exp H(code)`: how many equally frequent codes would be as varied. histogram: (..., V) -> (...)."""
    return entropy(histogram).exp()


def top_share(histogram: Tensor) -> Tensor:
    """Share of the most frequent code: the accuracy of a guess that never listens. histogram: (..., V) -> (...)."""
    return histogram.amax(-1).double() / histogram.sum(-1).clamp(min=1)


def used_share(histogram: Tensor) -> Tensor:
    """Fraction of the codes that occurred. histogram: (..., V) -> (...)."""
    return (histogram > 0).double().mean(-1)


def bits_per_second(histogram: Tensor, frames_per_second: float) -> Tensor:
    """Entropy of the codes in bits times their rate, as the ZeroSpeech 2019 challenge defines a bitrate.

    histogram: (..., V) -> (...)
    """
    return entropy(histogram) / math.log(2) * frames_per_second


def repeated_share(codes: Tensor, is_first: Tensor) -> Tensor:
    """Share of frames that have the code of the frame before, of those that have one.

    codes: (M, N), is_first: (M,) bool, True on the first frame of each utterance -> (N,) float64; 0 without such frames
    """
    follows = ~is_first[1:]
    same = (codes[1:] == codes[:-1]) & follows[:, None]
    return same.sum(0).double() / follows.sum().clamp(min=1)


def normalised_mutual_information(a: Tensor, b: Tensor) -> Tensor:
    """`2 I(a; b) / (H(a) + H(b))` of two codes of the same frames; biased upwards where frames are few.

    a, b: (M,) int64 -> () float64 in [0, 1]; 0 where either is constant or there are no frames.
    """
    first, second, pairs = (entropy(_counts(codes)) for codes in (a, b, a * (1 << 31) + b))
    both = first + second
    return torch.where(both > 0, 2 * (both - pairs) / both.clamp(min=1e-12), torch.zeros_like(both))


def _counts(codes: Tensor) -> Tensor:
    """How often each code occurs, and zeros: as many numbers as codes, so that no host waits for how many differ.

    codes: (M,) int64 -> (M,) int64
    """
    ordered = codes.sort().values
    begins = torch.ones_like(ordered)
    begins[1:] = ordered[1:] != ordered[:-1]
    return torch.zeros_like(ordered).scatter_add_(0, begins.cumsum(0) - 1, torch.ones_like(ordered))


class Churn:
    """Remembers the codes of batches that come again, as those of a validation set do, with the same masks."""

    def __init__(self):
        self._codes = {}

    def of_batch(self, source: str, batch: Hashable, codes: Tensor) -> Tuple[Tensor, int]:
        """How many frames have another code than when the batch came last, and of how many.

        Args:
            source: whose codes they are.
            batch: tells the batch from all others.
            codes: (M, N) int64.

        Returns:
            () float64, the mean over N of the frames that changed, and M; two zeros where there is nothing to compare.
        """
        before = self._codes.get((source, batch))
        self._codes[source, batch] = codes
        if before is None or before.shape != codes.shape:
            return codes.new_zeros((), dtype=torch.float64), 0
        return (before != codes).double().mean(1).sum(), codes.shape[0]


class CollapseAlarm:
    """Warns, or stops the run, when the codes of a source stay few.

    Args:
        min_perplexity: the alarm's bound; 0: there is no alarm.
        patience: so many updates in a row must lie below it.
        stop: raise instead of warning.
    """

    def __init__(self, min_perplexity: float, patience: int, stop: bool):
        self.min_perplexity, self.patience, self.stop = min_perplexity, patience, stop
        self._updates_below: Dict[str, int] = {}

    @property
    def is_on(self) -> bool:
        return self.min_perplexity > 0

    def watch(self, histograms: Mapping[str, Tensor]) -> None:
        """Look at the codes of one update. histograms: per source (N, V) counts of all processes.

        Raises:
            UserError: `stop`, and the alarm rings.
        """
        if not self.is_on:
            return
        for source, histogram in histograms.items():
            if histogram.sum() > 0:
                self._watch(source, float(perplexity(histogram).mean()))

    def _watch(self, source, value):
        below = self._updates_below.get(source, 0) + 1 if value < self.min_perplexity else 0
        rings = below >= self.patience
        self._updates_below[source] = 0 if rings else below
        if not rings:
            return
        message = (
            f"the codes of target source `{source}` have collapsed: perplexity {value:.1f} is below "
            f"{self.min_perplexity} for {self.patience} updates. Look at `quantizer_norm`, the "
            "quantizer's seed and the features before you train on."
        )
        if self.stop:
            raise UserError(message)
        logger.warning(message)
