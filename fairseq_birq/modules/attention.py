"""Self-attention with rotary or relative positions, on torch's scaled_dot_product_attention."""

from typing import List, Optional, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairseq_birq.devices import is_compiling
from fairseq_birq.errors import UserError
from fairseq_birq.modules.cpu import attend
from fairseq_birq.modules.rotary import rows_of, split_and_rotate
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


def additive(keep: Optional[Tensor], dtype: torch.dtype) -> Optional[Tensor]:
    """0 where a query may attend and -inf where not, to be added to scores. keep: bool or None -> float of the same shape."""
    return None if keep is None else torch.zeros_like(keep, dtype=dtype).masked_fill_(~keep, float("-inf"))


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
        counts, dropouts = self._parts(x.shape[0], inputs.clean_rows)  # len(x) would be a constant to exporters
        keep = inputs.keep
        assert inputs.positions is not None
        if self.positions == "rotary":
            parts = split_and_rotate(qkv, inputs.positions, counts)
        else:
            query, key, value = qkv.unbind(2)
            keep = self._distance_scores(query, inputs.positions[0], keep)
            query = query + self.content_bias.to(query.dtype)
            parts = list(zip(*(rows_of(heads, counts) for heads in (query, key, value))))
        keeps = [keep] * len(counts) if keep is None or keep.shape[0] == 1 else rows_of(keep, counts)
        attended = []
        for (query, key, value), keep, p in zip(parts, keeps, dropouts):
            heads = attend(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), keep, p)
            attended.append(_join_heads(heads))
        return self.output(attended[0] if len(attended) == 1 else torch.cat(attended))

    def _parts(self, num_rows: int, clean_rows: int) -> Tuple[List[int], List[float]]:
        """How many rows are computed alike, and their dropout on attention weights."""
        if not self.training or self.dropout == 0:
            return [num_rows], [0.0]
        parts = [(num_rows - clean_rows, self.dropout), (clean_rows, 0.0)]
        return [count for count, _ in parts if count], [p for count, p in parts if count]

    def _distance_scores(self, query: Tensor, table: Tensor, keep: Optional[Tensor]) -> Tensor:
        """Scores that depend on the distance of query and key, -inf where `keep` is False.

        query: (B, T, H, head_dim) float, table: (2T - 1, d) float -> (B, H, T, T) float.
        """
        num_frames = query.shape[1]
        distances = self.distance(table.to(query.dtype)).view(-1, self.num_heads, self.head_dim)
        query = (query + self.distance_bias.to(query.dtype)) * self.head_dim**-0.5
        scores = torch.einsum("bthd,rhd->bhtr", query, distances)  # column r: distance T - 1 - r
        scores = _row_t_moved_left(scores, num_frames)
        if keep is None:
            return scores
        return scores.masked_fill(~keep, float("-inf")) if keep.dtype == torch.bool else scores + keep.to(scores.dtype)


def _row_t_moved_left(scores: Tensor, num_frames: int) -> Tensor:
    """Of row t the columns from T - 1 - t on. scores: (B, H, T, 2T - 1) -> (B, H, T, T)."""
    if is_compiling():  # plain operations
        scores = F.pad(scores, (1, 0)).flatten(2)[..., num_frames:]
        return scores.view(*scores.shape[:2], num_frames, -1)[..., :num_frames]
    row, column = scores.stride()[2:]
    strides = (*scores.stride()[:2], row - column, column)
    return scores.as_strided((*scores.shape[:3], num_frames), strides, scores.storage_offset() + (num_frames - 1) * column)


def _join_heads(attended: Tensor) -> Tensor:
    """(B, H, T, head_dim) -> (B, T, d)."""
    if torch.onnx.is_in_onnx_export():  # it has no symbolic shape for the view below
        return torch.cat(attended.unbind(1), dim=-1)
    return attended.transpose(1, 2).flatten(2)


def _check_heads(dim: int, num_heads: int, positions: str):
    if num_heads <= 0 or dim % num_heads:
        raise UserError(f"`encoder.num_heads` must divide `encoder.dim`, but {num_heads} does not divide {dim}")
    if positions == "rotary" and dim // num_heads % 2:
        raise UserError(
            f"rotary positions need heads of even width, but `encoder.dim` / `encoder.num_heads` = {dim // num_heads}"
        )
