"""Normalisation of hidden states before they are quantized, with statistics that no batch decides alone.

Layer normalisation leaves the mean direction that all frames share, and random codes of such states collapse onto a
few. Standardising every dimension over frames takes it out.
"""

import functools
from contextlib import contextmanager
from typing import Callable, Iterable, Optional, Sequence, Tuple

import torch
from torch import Tensor
from torch.nn import functional as F

from fairseq_birq import distributed
from fairseq_birq.modules import held_statistics
from fairseq_birq.modules.float32_buffers import KeepsFloat32

MODES = ("layer", "standardize", "standardize+layer", "whiten")
_EPSILON = 1e-5


class HiddenNormalisation(KeepsFloat32):
    """Normalises (M, d) hidden states with running statistics: no gradient, the same in all processes, checkpointed.

    Several processes add up a batch's sums while the model goes on computing; the statistics are renewed when somebody next
    asks for them: the next batch, or a checkpoint.

    Args:
        dim: d.
        mode: "layer" (layer normalisation without affine, the paper's), "standardize" (per dimension),
            "standardize+layer", or "whiten" (multiplied by the inverse square root of the covariance).
        momentum: share of a new batch in the statistics; the first 1 / momentum batches weigh equally. The (co)variance
            is that of all their frames, so the means of batches may differ.
        max_batches: the statistics stay as they are after so many batches; None: they never do.
    """

    mean: Tensor
    second: Tensor
    num_batches: Tensor

    def __init__(self, dim: int, mode: str = "standardize+layer", momentum: float = 0.01, max_batches: Optional[int] = None):
        super().__init__()
        self.mode, self.momentum, self.max_batches = mode, momentum, max_batches
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("second", torch.eye(dim) if mode == "whiten" else torch.ones(dim))  # (co)variance
        self.register_buffer("num_batches", torch.zeros((), dtype=torch.int64))
        self._seen, self._since = 0, 0  # `num_batches` when the host last knew, and how many batches may have come since
        self._coming: Optional[Tuple[Callable[[], Tensor], int]] = None  # sums on their way between processes, and our row there

    def _save_to_state_dict(self, *args, **kwargs):
        take_in_what_came([self])
        super()._save_to_state_dict(*args, **kwargs)

    def _load_from_state_dict(self, *args, **kwargs):
        self._coming = None
        super()._load_from_state_dict(*args, **kwargs)
        self._seen, self._since = 0, 1 << 62

    def _apply(self, fn, recurse=True):
        take_in_what_came([self])
        return super()._apply(fn, recurse)

    def _has_seen(self, batches: int) -> bool:
        """Whether `num_batches` has reached a number. The host asks the device only where it may have and is not known to."""
        take_in_what_came([self])
        if self._seen < batches <= self._seen + self._since:
            self._seen, self._since = int(self.num_batches), 0
        return self._seen >= batches

    def reset(self) -> None:
        """Forget the statistics: the next batch sets them."""
        self._coming = None
        self.mean.zero_()
        self.second.copy_(torch.eye(len(self.mean)) if self.mode == "whiten" else torch.ones_like(self.second))
        self.num_batches.zero_()
        self._seen, self._since = 0, 0

    def forward(self, x: Tensor) -> Tensor:
        """With the statistics as they are, also under autocast. x: (M, d) float -> (M, d) float32, or float64 for float64."""
        take_in_what_came([self])
        x = x if x.dtype == torch.float64 else x.float()
        if self.mode == "whiten":
            with torch.autocast(x.device.type, enabled=False):
                values, vectors = torch.linalg.eigh(self.second.to(x.dtype))
                return (x - self.mean) @ (vectors * (values.clamp(min=0) + _EPSILON).rsqrt()) @ vectors.t()
        if self.mode.startswith("standardize"):
            x = (x - self.mean) * (self.second + _EPSILON).rsqrt()
        return F.layer_norm(x, x.shape[-1:]) if self.mode.endswith("layer") else x

    def of_batch(self, x: Tensor, batch: Tensor) -> Tensor:
        """Normalise frames of a batch with the statistics before it; in training it is taken into them afterwards.

        Where there are none yet, a batch is normalised with its own. Only training keeps them, so that what a run
        computes does not depend on when it validates.

        Args:
            x: (M, d) float, the frames that are quantized, with or without a gradient.
            batch: (frames, d) float, all frames of the batch that are not padding.

        Returns:
            (M, d) float32, or float64 for float64.
        """
        with batch_statistics([self], lambda index: batch):
            return self(x)

    def update(self, frames: Tensor) -> None:
        """Take in the hidden states of a batch, see `take_in`. frames: (frames, d) float."""
        take_in([self], [lambda: frames])

    @property
    def is_settled(self) -> bool:
        """Whether batches change the statistics no more."""
        return self.mode == "layer" or (self.max_batches is not None and self._has_seen(self.max_batches))

    @property
    def has_statistics(self) -> bool:
        return self.mode == "layer" or self._has_seen(1)

    @torch.no_grad()
    def settle(self, batches: Iterable[Tensor]) -> int:
        """Statistics over all frames of some batches together, of this process alone, in place of what there was.

        batches: (frames, d) float each

        Returns:
            How many frames they are; fewer than two change nothing.
        """
        packed, self._coming = None, None
        for frames in batches:
            summed = self._sums(frames.double())
            packed = summed if packed is None else packed + summed
        if packed is None or packed[-1] < 2:
            return 0 if packed is None else int(packed[-1])
        mean, second = self._mean_and_second(packed[None])
        self.mean.copy_(mean[0])
        self.second.copy_(second.view_as(self.second))
        self.num_batches.fill_(1)
        self._seen, self._since = 1, 0
        return int(packed[-1])

    def _sums(self, frames: Tensor) -> Tensor:
        """Sums of x, sums of x x' or x^2, and the number of frames in one vector. frames: (frames, d) float64."""
        moments = frames.t() @ frames if self.mode == "whiten" else frames.square().sum(0)
        return torch.cat([frames.sum(0), moments.flatten(), frames.new_full((1,), float(frames.shape[0]))])

    def _mean_and_second(self, packed: Tensor) -> Tuple[Tensor, Tensor]:
        """Of several layers: (L, d) and (L, d or d * d). packed: `_sums` of each."""
        dim, total = len(self.mean), packed[:, -1:]
        mean = packed[:, :dim] / total
        return mean, packed[:, dim:-1] / total - self._square(mean)

    def _square(self, x: Tensor) -> Tensor:
        """(L, d) -> (L, d or d * d)"""
        return (x[:, :, None] * x[:, None]).flatten(1) if self.mode == "whiten" else x.square()


@contextmanager
def batch_statistics(normalisations: Sequence[HiddenNormalisation], batch_of: Callable[[int], Tensor]):
    """Inside, all layers of a source are normalised with the statistics before a batch; in training it is taken in afterwards.

    Where there are none yet, a batch is normalised with its own. Only training keeps them, so that what a run
    computes does not depend on when it validates.

    Args:
        batch_of: gives the hidden states of layer i of `normalisations`, all frames of the batch that are not padding:
            (frames, d) float.
    """
    take_in_what_came(normalisations)
    batches = [functools.partial(batch_of, index) for index in range(len(normalisations))]
    parts = list(zip(normalisations, batches))
    fresh = [part for part in parts if not part[0].has_statistics]
    known = [part for part in parts if part[0].has_statistics and part[0].training]
    before = [(buffer, buffer.clone()) for norm, _ in fresh if not norm.training for buffer in norm.buffers()]
    _take_in_parts(fresh)
    yield
    _take_in_parts(known)
    for buffer, copy in before:
        buffer.copy_(copy)
    for norm, _ in fresh:
        if not norm.training:
            norm._seen, norm._since = 0, 0


def _take_in_parts(parts) -> None:
    if parts:
        take_in(*zip(*parts))


@torch.no_grad()
def take_in(normalisations: Sequence[HiddenNormalisation], batches: Sequence[Callable[[], Tensor]]) -> None:
    """Take a batch, joined over all processes, into the statistics of several layers of one source, at once.

    Fewer than two frames, or any that are not finite, change nothing of a layer.

    Args:
        batches: give the hidden states of each layer, (frames, d) float.
    """
    take_in_what_came(normalisations)
    parts = [(norm, batch) for norm, batch in zip(normalisations, batches) if not norm.is_settled]
    if not parts or held_statistics.are_held():
        return
    packed = torch.stack([norm._sums(batch().double()) for norm, batch in parts])
    for norm, _ in parts:
        norm._since += 1
    if not distributed.is_on():
        _renew([norm for norm, _ in parts], packed)
        return
    finish = functools.lru_cache(maxsize=None)(distributed.begin_sum_over_processes(packed))
    for row, (norm, _) in enumerate(parts):
        norm._coming = finish, row


@torch.no_grad()
def take_in_what_came(normalisations: Sequence[HiddenNormalisation]) -> None:
    """Wait for sums that are on their way between processes, and renew the statistics with them."""
    norms, rows = [], []
    for norm in normalisations:
        if norm._coming is not None:
            (finish, row), norm._coming = norm._coming, None
            norms.append(norm)
            rows.append(finish()[row])
    if norms:
        _renew(norms, torch.stack(rows))


def _renew(norms: Sequence[HiddenNormalisation], packed: Tensor) -> None:
    """packed: (L, ...), `_sums` of each layer over all processes."""
    first = norms[0]
    is_good = (packed[:, -1:] >= 2) & torch.isfinite(packed).all(1, keepdim=True)  # on the device: the host does not wait
    mean, second = first._mean_and_second(packed)
    num_batches = torch.stack([norm.num_batches for norm in norms])[:, None] + is_good
    share = num_batches.double().reciprocal().clamp(min=first.momentum)
    old_mean = torch.stack([norm.mean for norm in norms])
    old_second = torch.stack([norm.second.flatten() for norm in norms])
    between = share * (1.0 - share) * first._square(mean - old_mean)
    new_second = torch.where(is_good, old_second.double().lerp(second, share) + between, old_second).to(old_second.dtype)
    new_mean = torch.where(is_good, old_mean.double().lerp(mean, share), old_mean).to(old_mean.dtype)
    torch._foreach_copy_([norm.mean for norm in norms], list(new_mean))
    torch._foreach_copy_([norm.second for norm in norms], [row.view_as(first.second) for row in new_second])
    torch._foreach_copy_([norm.num_batches for norm in norms], [row.squeeze(0) for row in num_batches])
