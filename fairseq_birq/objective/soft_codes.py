"""Distributions over codes that are never whole in memory: what makes them, and one block of them."""

import functools
from dataclasses import dataclass
from typing import List, Tuple

import numpy as np
import torch
from torch import Tensor

_TABLE_SIZE = 1 << 20
_LOG_FLOOR = -60.0  # of a label's log odds: e^-60 is lost in float64 too, but denormals make a CPU 5 times slower


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

    @property
    def sharpness(self) -> float:
        """The logits of y are this times `c_v . u`, plus noise and a constant."""
        return 2.0 * self.score_scale / self.temperature

    def block(self, rows: slice, index: int, dtype: torch.dtype) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
        """R frames of one label column: labels (R, V); their entropies in nats, nearest and sampled codes, (R,) each."""
        unit, codebook = (tensor.to(dtype) for tensor in self.column(index))
        logits = (self.sharpness * unit[rows]) @ codebook.t()  # but for a constant, and without noise
        nearest = grouped_argmax(logits)
        logits.add_(gumbel_rows(self.offsets[rows, index], codebook.shape[0], dtype), alpha=1.0 / self.temperature)
        sampled = grouped_argmax(logits)
        top = logits.gather(1, sampled[:, None])
        soft = logits.clamp_(min=top + _LOG_FLOOR).softmax(-1)
        log_total = top - soft.gather(1, sampled[:, None]).log()  # logsumexp of the logits
        return soft, log_total.squeeze(1) - logits.mul_(soft).sum(-1), nearest, sampled


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


def grouped_argmax(scores: Tensor) -> Tensor:
    """`argmax` over long rows in two short steps, which torch does faster. scores: (R, V) -> (R,) int64."""
    group = group_size(scores.shape[1])
    grouped = scores.view(scores.shape[0], -1, group)
    best = grouped.amax(-1).argmax(-1)
    members = grouped[torch.arange(scores.shape[0], device=scores.device), best]
    return best * group + members.argmax(-1)


def group_size(num_codes: int) -> int:
    """The largest divisor of V up to 128."""
    return max(size for size in range(1, min(128, num_codes) + 1) if num_codes % size == 0)
