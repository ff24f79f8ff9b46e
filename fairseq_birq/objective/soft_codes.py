"""Distributions over codes that are never whole in memory: what makes them, and one block of them."""

import functools
from dataclasses import dataclass, replace
from typing import Iterator, List

import numpy as np
import torch
from torch import Tensor

from fairseq_birq.modules.cpu import above_denormals, grouped_argmax

_TABLE_SIZE = 1 << 20


@dataclass
class SoftCodes:
    """Gumbel-softmax labels of M frames: `softmax((score_scale * -||c_v - u||^2 + noise_v) / temperature)`.

    BiRQ (arXiv 2509.15430), section 3; Gumbel-softmax: Jang et al. 2017, arXiv 1611.01144. A label column is one
    codebook of one layer; column i belongs to prediction head `i % N`.
    """

    units: List[Tensor]  # per layer (M, N, D) float: unit vectors, with gradient
    codebooks: List[Tensor]  # per layer (N, V, D) float: unit rows
    offsets: Tensor  # (M, layers * N) float64 in [0, 1): where each label's noise begins in the table
    score_scale: float
    temperature: float
    straight_through: bool = False

    @property
    def num_columns(self) -> int:
        return self.offsets.shape[1]

    def column(self, index: int):
        """The unit vectors (M, D) and the codebook (V, D) of one label column."""
        num_codebooks = self.codebooks[0].shape[0]
        layer, n = divmod(index, num_codebooks)
        return self.units[layer][:, n], self.codebooks[layer][n]

    def of_frames(self, rows: slice, units: Iterator[Tensor]) -> "SoftCodes":
        """The labels of some frames only. units: next come their unit vectors (R, N, D), layer by layer."""
        return replace(self, units=[next(units) for _ in self.units], offsets=self.offsets[rows])

    def labels(self, index: int, dtype: torch.dtype) -> "SoftLabels":
        """All labels of one column, differentiable in `units`.

        As both sides are unit vectors, `-||c_v - u||^2 = 2 c_v . u - 2`, and the constant is nothing to a softmax. What
        happens to the logits without a gradient is done in place, as they are the largest arrays there are.
        """
        unit, codebook = (tensor.to(dtype) for tensor in self.column(index))
        logits = (2.0 * self.score_scale / self.temperature * unit) @ codebook.t()
        with torch.no_grad():
            nearest = grouped_argmax(logits)
            logits.add_(gumbel_rows(self.offsets[:, index], codebook.shape[0], dtype), alpha=1.0 / self.temperature)
            sampled = grouped_argmax(logits)
            top = logits.gather(1, sampled[:, None])
            above_denormals(logits, top)
        y = logits.softmax(-1)
        with torch.no_grad():
            log_total = top - y.gather(1, sampled[:, None]).log()  # logsumexp of the logits
            entropy = log_total.squeeze(1) - logits.mul_(y).sum(-1)
        if self.straight_through:
            y = (y - y.detach()).scatter_add(1, sampled[:, None], y.new_ones(y.shape[0], 1))
        return SoftLabels(y, entropy, nearest, sampled)


@dataclass
class SoftLabels:
    """R frames of one label column."""

    y: Tensor  # (R, V) float: the distributions; with `straight_through` the sampled code, and the distribution's gradient
    entropy: Tensor  # (R,) of the distributions, in nats
    nearest: Tensor  # (R,) int64: the code without noise
    sampled: Tensor  # (R,) int64: the code with noise


@functools.lru_cache(maxsize=8)
def gumbel_table(device: torch.device, dtype: torch.dtype, size: int = _TABLE_SIZE) -> Tensor:
    """`size` standard Gumbel numbers: exact quantiles in a fixed random order, so the same on every machine."""
    quantiles = (torch.from_numpy(np.random.RandomState(0).permutation(size)).double() + 0.5) / size
    return (-(-quantiles.log()).log()).to(device=device, dtype=dtype)


def gumbel_rows(offsets: Tensor, num_codes: int, dtype: torch.dtype) -> Tensor:
    """One row of noise per label, cut from the table. offsets: (R,) float64 in [0, 1) -> (R, V).

    Drawing V fresh numbers per frame costs more than the rest of the label; a row of a shuffled table of 2^20 numbers at
    a random place has the same distribution, and rows overlap in a fraction 2 V / 2^20 of all pairs, at other codes.
    """
    table = gumbel_table(offsets.device, dtype, max(_TABLE_SIZE, 64 * num_codes))
    starts = (offsets * (table.numel() - num_codes)).long()
    return table.unfold(0, num_codes, 1)[starts]
