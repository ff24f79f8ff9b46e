"""Normalisation of hidden states before they are quantized, with statistics that no batch decides alone.

Layer normalisation leaves the mean direction that all frames share, and random codes of such states collapse onto a
few. Standardising every dimension over frames takes it out.
"""

from typing import Callable, Iterable, Optional

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
        self._coming: Optional[Callable[[], Tensor]] = None  # the sums of a batch, on their way between processes

    def _save_to_state_dict(self, *args, **kwargs):
        self._take_in_what_came()
        super()._save_to_state_dict(*args, **kwargs)

    def _load_from_state_dict(self, *args, **kwargs):
        self._coming = None
        super()._load_from_state_dict(*args, **kwargs)
        self._seen, self._since = 0, 1 << 62

    def _apply(self, fn, recurse=True):
        self._take_in_what_came()
        return super()._apply(fn, recurse)

    def _has_seen(self, batches: int) -> bool:
        """Whether `num_batches` has reached a number. The host asks the device only where it may have and is not known to."""
        self._take_in_what_came()
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
        self._take_in_what_came()
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
        if self.mode == "layer" or self._has_seen(1):
            normalised = self(x)
            if self.training:
                self.update(batch)
            return normalised
        before = {name: buffer.clone() for name, buffer in self.named_buffers()}
        self.update(batch)
        normalised = self(x)
        if not self.training:
            for name, buffer in self.named_buffers():
                buffer.copy_(before[name])
            self._seen, self._since = 0, 0
        return normalised

    @torch.no_grad()
    def update(self, frames: Tensor) -> None:
        """Take in the hidden states of a batch, joined over all processes. frames: (frames, d) float.

        Fewer than two frames, or any that are not finite, change nothing.
        """
        self._take_in_what_came()
        settled = self.max_batches is not None and self._has_seen(self.max_batches)
        if self.mode == "layer" or settled or held_statistics.are_held():
            return
        packed = self._sums(frames.double())
        self._since += 1
        if distributed.is_on():
            self._coming = distributed.begin_sum_over_processes(packed)
        else:
            self._take_in(packed)

    @torch.no_grad()
    def _take_in_what_came(self) -> None:
        if self._coming is not None:
            finish, self._coming = self._coming, None
            self._take_in(finish())

    def _take_in(self, packed: Tensor) -> None:
        """packed: of `_sums`, over all processes."""
        is_good = (packed[-1] >= 2) & torch.isfinite(packed).all()  # decided on the device: the host does not wait
        mean, second = self._mean_and_second(packed)
        self.num_batches += is_good
        share = self.num_batches.double().reciprocal().clamp(min=self.momentum)
        between = share * (1.0 - share) * self._square(mean - self.mean)
        self.second.copy_(torch.where(is_good, self.second.double().lerp(second, share) + between, self.second))
        self.mean.copy_(torch.where(is_good, self.mean.double().lerp(mean, share), self.mean))

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
        mean, second = self._mean_and_second(packed)
        self.mean.copy_(mean)
        self.second.copy_(second)
        self.num_batches.fill_(1)
        self._seen, self._since = 1, 0
        return int(packed[-1])

    def _sums(self, frames: Tensor) -> Tensor:
        """Sums of x, sums of x x' or x^2, and the number of frames in one vector. frames: (frames, d) float64."""
        moments = frames.t() @ frames if self.mode == "whiten" else frames.square().sum(0)
        return torch.cat([frames.sum(0), moments.flatten(), frames.new_full((1,), float(frames.shape[0]))])

    def _mean_and_second(self, packed: Tensor):
        dim, total = len(self.mean), packed[-1]
        mean = packed[:dim] / total
        return mean, packed[dim:-1].view_as(self.second) / total - self._square(mean)

    def _square(self, x: Tensor) -> Tensor:
        return torch.outer(x, x) if self.mode == "whiten" else x.square()
