"""Self-attention with rotary or relative positions, on torch's scaled_dot_product_attention."""

from typing import Optional, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairseq_birq.errors import UserError
from fairseq_birq.modules.cpu import attend
from fairseq_birq.structs import LayerInputs


def attention_keep(padding_mask: Optional[Tensor], num_frames: int, window: int, device) -> Optional[Tensor]:
    """Which keys a query may attend to, or None if all.

    padding_mask: (B, T) bool or None -> (B or 1, 1, 1 or T, T) bool. A frame may always attend to itself where a window
    is set, so that a padded frame far from all speech has something to attend to.
    """
    if window <= 0:
        return None if padding_mask is None else ~padding_mask[:, None, None, :]
    frame = torch.arange(num_frames, device=device)
    distance = (frame[:, None] - frame[None, :]).abs()
    near = (distance <= window)[None, None]
    return near if padding_mask is None else near & (~padding_mask[:, None, None, :] | (distance == 0))


def rotary_table(num_frames: int, head_dim: int, device) -> Tuple[Tensor, Tensor]:
    """Cosines and sines of RoFormer's rotations (Su et al. 2021, arXiv 2104.09864, eq. 15), each (T, 1, head_dim) float32."""
    rates = 10000.0 ** (-torch.arange(0, head_dim, 2, device=device, dtype=torch.float32) / head_dim)
    angles = torch.arange(num_frames, device=device, dtype=torch.float32)[:, None] * rates
    angles = torch.cat([angles, angles], dim=-1)[:, None]
    sines = angles.sin()
    sines[..., : head_dim // 2].neg_()
    return angles.cos(), sines


def rotate(x: Tensor, table: Tuple[Tensor, Tensor]) -> Tensor:
    """Turn each pair (i, i + head_dim / 2) by its frame's angle. x: (B, T, ..., head_dim) float -> the same shape and type."""
    cosines, sines = table
    return (x * cosines + x.roll(x.shape[-1] // 2, dims=-1) * sines).to(x.dtype)


def relative_table(num_frames: int, dim: int, device) -> Tuple[Tensor]:
    """Sinusoids of the distances T - 1 to -(T - 1) (Dai et al. 2019, arXiv 1901.02860): (2T - 1, dim) float32."""
    distances = torch.arange(num_frames - 1, -num_frames, -1, device=device, dtype=torch.float32)
    rates = 10000.0 ** (-torch.arange(0, dim, 2, device=device, dtype=torch.float32) / dim)
    angles = distances[:, None] * rates
    return (torch.cat([angles.sin(), angles.cos()], dim=-1)[:, :dim],)


class SelfAttention(nn.Module):
    """Multi-head self-attention.

    Args:
        positions: "rotary", or "relative" (Transformer-XL, arXiv 1901.02860, section 3.3: an additive bias).
        dropout: on attention weights.

    Raises:
        UserError: `num_heads` does not divide `dim`, or heads of odd width with rotary positions.
    """

    def __init__(self, dim: int, num_heads: int, positions: str = "rotary", dropout: float = 0.0):
        super().__init__()
        _check_heads(dim, num_heads, positions)
        self.num_heads, self.head_dim = num_heads, dim // num_heads
        self.positions, self.dropout = positions, dropout
        self.qkv = nn.Linear(dim, 3 * dim)
        self.output = nn.Linear(dim, dim)
        if positions == "relative":
            self.distance = nn.Linear(dim, dim, bias=False)
            self.content_bias = nn.Parameter(torch.zeros(num_heads, self.head_dim))
            self.distance_bias = nn.Parameter(torch.zeros(num_heads, self.head_dim))

    def forward(self, x: Tensor, inputs: LayerInputs) -> Tensor:
        """x: (B, T, d) float -> (B, T, d)."""
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, self.head_dim))
        keep = inputs.keep
        assert inputs.positions is not None
        if self.positions == "rotary":
            cosines, sines = inputs.positions
            turned, value = qkv.split([2, 1], dim=2)  # whose backward pass is one copy; that of slices is many
            query, key = rotate(turned, (cosines[:, None], sines[:, None])).unbind(2)
            value = value.squeeze(2)
        else:
            query, key, value = qkv.unbind(2)
            keep = self._distance_scores(query, inputs.positions[0], keep)
            query = query + self.content_bias.to(query.dtype)
        query, key, value = (part.transpose(1, 2) for part in (query, key, value))
        attended = self._attend(query, key, value, keep, inputs.clean_rows)
        return self.output(_join_heads(attended))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, keep: Optional[Tensor], clean_rows: int) -> Tensor:
        """query, key, value: (B, H, T, head_dim) -> (B, H, T, head_dim)."""
        num_noisy = query.shape[0] - clean_rows
        if not self.training or self.dropout == 0 or num_noisy == 0:
            return attend(query, key, value, keep)
        if clean_rows == 0:
            return attend(query, key, value, keep, self.dropout)
        parts = [part.split([num_noisy, clean_rows]) for part in (query, key, value)]  # slices have a slower backward pass
        noisy, clean = [part[0] for part in parts], [part[1] for part in parts]
        first = attend(noisy[0], noisy[1], noisy[2], _rows(keep, slice(None, num_noisy)), self.dropout)
        return torch.cat([first, attend(clean[0], clean[1], clean[2], _rows(keep, slice(num_noisy, None)))])

    def _distance_scores(self, query: Tensor, table: Tensor, keep: Optional[Tensor]) -> Tensor:
        """Scores that depend on the distance of query and key, -inf where `keep` is False.

        query: (B, T, H, head_dim) float, table: (2T - 1, d) float -> (B, H, T, T) float.
        """
        num_frames = query.shape[1]
        distances = self.distance(table.to(query.dtype)).view(-1, self.num_heads, self.head_dim)
        query = (query + self.distance_bias.to(query.dtype)) * self.head_dim**-0.5
        scores = torch.einsum("bthd,rhd->bhtr", query, distances)  # column r: distance T - 1 - r
        scores = F.pad(scores, (1, 0)).flatten(2)[..., num_frames:]  # row t moves by t to the left
        scores = scores.view(*scores.shape[:2], num_frames, -1)[..., :num_frames]
        return scores if keep is None else scores.masked_fill(~keep, float("-inf"))


def _join_heads(attended: Tensor) -> Tensor:
    """(B, H, T, head_dim) -> (B, T, d)."""
    if torch.onnx.is_in_onnx_export():  # it has no symbolic shape for the view below
        return torch.cat(attended.unbind(1), dim=-1)
    return attended.transpose(1, 2).flatten(2)


def _rows(keep: Optional[Tensor], rows: slice) -> Optional[Tensor]:
    return keep if keep is None or keep.shape[0] == 1 else keep[rows]


def _check_heads(dim: int, num_heads: int, positions: str):
    if num_heads <= 0 or dim % num_heads:
        raise UserError(f"`encoder.num_heads` must divide `encoder.dim`, but {num_heads} does not divide {dim}")
    if positions == "rotary" and dim // num_heads % 2:
        raise UserError(
            f"rotary positions need heads of even width, but `encoder.dim` / `encoder.num_heads` = {dim // num_heads}"
        )
