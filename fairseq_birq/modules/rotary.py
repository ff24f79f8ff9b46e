"""Rotary positions of queries and keys (Su et al. 2021, arXiv 2104.09864)."""

from typing import List, Sequence, Tuple

import torch
from torch import Tensor

from fairseq_birq.devices import is_compiling

Table = Tuple[Tensor, ...]  # cosines and sines
Heads = Tuple[Tensor, ...]  # query, key, value


def rotary_table(num_frames: int, head_dim: int, device) -> Tuple[Tensor, Tensor]:
    """Cosines and sines of RoFormer's rotations (eq. 15), (T, 1, head_dim) float32 each; the sines' first half is negated."""
    rates = 10000.0 ** (-torch.arange(0, head_dim, 2, device=device, dtype=torch.float32) / head_dim)
    angles = (torch.arange(num_frames, device=device, dtype=torch.float32)[:, None] * rates)[:, None]
    sines = angles.sin()
    return angles.cos().repeat(1, 1, 2), torch.cat([-sines, sines], dim=-1)


def rotate(x: Tensor, table: Table) -> Tensor:
    """Turn each pair (i, i + head_dim / 2) by its frame's angle. x: (B, T, H, head_dim) float -> the same shape and type."""
    cosines, sines = table
    return (x * cosines + x.roll(x.shape[-1] // 2, dims=-1) * sines).to(x.dtype)


def split_and_rotate(qkv: Tensor, table: Table, counts: List[int]) -> List[Heads]:
    """Query and key, turned, and value, of so many rows after each other.

    qkv: (B, T, 3, H, head_dim) float -> for each of `counts` three of (rows, T, H, head_dim)
    """
    if is_compiling():
        query, key, value = qkv.unbind(2)
        return list(zip(*(rows_of(heads, counts) for heads in (rotate(query, table), rotate(key, table), value))))
    heads = _SplitAndRotate.apply(qkv, counts, *table)
    return [heads[start : start + 3] for start in range(0, len(heads), 3)]


def rows_of(x: Tensor, counts: List[int]) -> Sequence[Tensor]:
    """So many rows of x after each other. torch.compile would take the size of a single piece for a constant."""
    return x.split(counts) if len(counts) > 1 else [x]


class _SplitAndRotate(torch.autograd.Function):
    """Without float32 copies of half-precision numbers, and with gradients that are written into their place at once."""

    @staticmethod
    def forward(ctx, qkv, counts, cosines, sines):
        sines = sines[..., sines.shape[-1] // 2 :]
        ctx.table, ctx.counts = (cosines, sines), counts
        turned = torch.empty_like(qkv[:, :, :2], memory_format=torch.contiguous_format)
        _rotate_into(turned, qkv[:, :, :2], cosines[:, None], sines[:, None])
        parts = zip(turned.split(counts), qkv.split(counts))
        return tuple(part for ours, given in parts for part in (ours[:, :, 0], ours[:, :, 1], given[:, :, 2]))

    @staticmethod
    def backward(ctx, *grads):
        cosines, sines = ctx.table
        joined = grads[0].new_empty(sum(ctx.counts), grads[0].shape[1], 3, *grads[0].shape[2:])
        for index, part in enumerate(joined.split(ctx.counts)):
            query, key, value = grads[3 * index : 3 * index + 3]
            _rotate_into(part[:, :, 0], query, cosines, sines, direction=-1)
            _rotate_into(part[:, :, 1], key, cosines, sines, direction=-1)
            part[:, :, 2] = value
        return joined, None, None, None


def _rotate_into(out: Tensor, x: Tensor, cosines: Tensor, sines: Tensor, direction: int = 1) -> None:
    torch.mul(x, cosines, out=out)
    (first, second), (first_out, second_out) = x.chunk(2, dim=-1), out.chunk(2, dim=-1)
    first_out.addcmul_(second, sines, value=-direction)
    second_out.addcmul_(first, sines, value=direction)
