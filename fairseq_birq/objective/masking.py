"""Span masking on features, and the counter-based random numbers behind it.

Every random number here is a pure function of (seed, update, utterance id, view, position): an utterance has the
same mask whatever batch, process or micro-batch it lands in, and a resumed run goes on with the masks that it would
have had.
"""

import math

import torch
from torch import Tensor, nn

from fairseq_birq.devices import to_device

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed integer; increments of SplitMix64
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB
_STARTS, _NOISE, _GUMBEL = 1, 2, 3  # streams of one utterance's key


def _shift_right(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014), on int64 with wrap-around."""
    x = (x ^ _shift_right(x, 30)) * _MIX_1
    x = (x ^ _shift_right(x, 27)) * _MIX_2
    return x ^ _shift_right(x, 31)


def utterance_keys(seed: int, update: int, ids: Tensor, view: int = 0) -> Tensor:
    """One 64-bit key per utterance. ids: (B,) int64 -> (B,) int64."""
    key = torch.zeros_like(ids)
    for part in (seed, update, view):
        key = _mix(key * _GOLDEN + part + 1)
    return _mix(key + ids * _GOLDEN)


def uniforms(keys: Tensor, positions: Tensor, stream: int) -> Tensor:
    """Uniform numbers in [0, 1). keys and positions: int64, broadcast together -> float64."""
    return _uniforms(_mix(keys + stream) + (positions + 1) * _GOLDEN)


def _uniforms(state: Tensor) -> Tensor:
    return _shift_right(_mix(state), 11).double() * 2.0**-53


def gumbel_offsets(keys: Tensor, columns: Tensor, num_columns: int) -> Tensor:
    """Where each frame's Gumbel noise begins in a noise table, as a fraction of the table.

    keys, columns: (M,) int64, of the frames' utterances and their places in them -> (M, num_columns) float64 in [0, 1).
    """
    positions = columns[:, None] * num_columns + torch.arange(num_columns, device=keys.device)
    return uniforms(keys[:, None], positions, _GUMBEL)


class SpanMasker(nn.Module):
    """Samples spans of encoder frames and fills them in the features, before subsampling.

    Every 10 ms frame starts a span with probability `start_prob` (BEST-RQ, arXiv 2202.01855, section 3), so on
    average 1 - (1 - start_prob)^(span_ms / 10) of the frames are masked: 33 % with 0.01 and 400 ms. Spans are snapped
    to encoder frames; one that would pass the end of the utterance is cut there.

    Masks are cheapest on the host, whatever the device of the features: nothing must then wait to know how many frames they are.
    """

    def __init__(self, step_ms, frames_per_step, span_ms=400.0, start_prob=0.01, noise_std=0.1):
        super().__init__()
        self.step_ms = step_ms
        self.frames_per_step = frames_per_step
        self.span_steps = max(1, round(span_ms / step_ms))
        self.start_prob = 1.0 - (1.0 - start_prob) ** (step_ms / 10.0)
        self.noise_std = noise_std

    def sample(self, padding_mask: Tensor, keys: Tensor) -> Tensor:
        """Choose the masked frames. padding_mask: (B, T) bool, keys: (B,) int64 -> mask: (B, T) bool."""
        steps = torch.arange(padding_mask.shape[1], device=keys.device)
        starts = uniforms(keys[:, None], steps[None, :], _STARTS) < self.start_prob
        started = starts.long().cumsum(1)
        ended = nn.functional.pad(started, (self.span_steps, 0))[:, : started.shape[1]]
        return (started > ended) & ~padding_mask

    def fill(self, x: Tensor, mask: Tensor, keys: Tensor) -> Tensor:
        """Replace masked features. x: (B, F, D) float, mask: (B, T) bool, keys: (B,) int64 -> (B, F, D)."""
        mask, keys = mask.cpu(), keys.cpu()
        frames = mask.repeat_interleave(self.frames_per_step, dim=1)[:, : x.shape[1]]
        frames = nn.functional.pad(frames, (0, x.shape[1] - frames.shape[1]))
        rows, columns = frames.nonzero(as_tuple=True)
        width = 2 * ((x.shape[2] + 1) // 2)  # random numbers come in pairs
        starts = _mix(keys + _NOISE)[rows] + columns * width * _GOLDEN
        packed = torch.cat([rows * x.shape[1] + columns, starts, (torch.arange(width) + 1) * _GOLDEN])
        index, starts, steps = to_device(packed, x.device).split([len(rows), len(rows), width])
        filled = x.clone()
        filled.view(-1, x.shape[2])[index] = self._noise(_uniforms(starts[:, None] + steps), x.shape[2]).to(x.dtype)
        return filled

    def _noise(self, uniform: Tensor, dim: int) -> Tensor:
        """Normal numbers by Box and Muller's transform. uniform: (R, dim or dim + 1) float64 -> (R, dim) float."""
        half = uniform.shape[1] // 2
        radius = (-2.0 * torch.log1p(-uniform[:, :half])).sqrt().float()
        angle = 2.0 * math.pi * uniform[:, half:].float()
        return self.noise_std * torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)[:, :dim]
