"""Self-attention with rotary or relative positions, on torch's scaled_dot_product_attention."""

from typing import List, Optional, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairseq_birq.devices import is_compiling
from fairseq_birq.errors import UserError
from fairseq_birq.modules.chunks import seen_in_chunks
from fairseq_birq.modules.cpu import attend
from fairseq_birq.modules.rotary import rotate, rows_of, split_and_rotate
from fairseq_birq.structs import Chunks, LayerInputs

KeysValues = Tuple[Tensor, Tensor]


def attention_keep(
    padding_mask: Optional[Tensor],
    num_frames: int,
    window: int,
    device,
    chunks: Optional[Chunks] = None,
    num_rows: int = 1,
) -> Optional[Tensor]:
    """Which keys a query may attend to, or None if all.

    A frame may always attend to itself where a window or chunks are set, so that a padded frame far from all speech has
    something to attend to.

    Args:
        padding_mask: (B, T) bool or None.
        window: frames to each side; 0: all.
        chunks: of the rows but the last `full_rows`.
        num_rows: B.

    Returns:
        (B or 1, 1, 1 or T, T) bool.
    """
    if window <= 0 and chunks is None:
        return None if padding_mask is None else ~padding_mask[:, None, None, :]
    frame = torch.arange(num_frames, device=device)
    distance = (frame[:, None] - frame[None, :]).abs()
    near = (distance <= window if window > 0 else torch.ones_like(distance, dtype=torch.bool))[None, None]
    if chunks is not None:
        within = near & seen_in_chunks(num_frames, chunks, device)
        full = chunks.full_rows
        near = (
            within
            if full == 0
            else torch.cat([part.expand(rows, -1, -1, -1) for part, rows in ((within, num_rows - full), (near, full))])
        )
    return near if padding_mask is None else near & (~padding_mask[:, None, None, :] | (distance == 0))


def additive(keep: Optional[Tensor], dtype: torch.dtype) -> Optional[Tensor]:
    """0 where a query may attend and -inf where not, to be added to scores. keep: bool or None -> float of the same shape."""
    return None if keep is None else torch.zeros_like(keep, dtype=dtype).masked_fill_(~keep, float("-inf"))


def relative_table(num_frames: int, dim: int, device, num_past: int = 0) -> Tuple[Tensor]:
    """Sinusoids of the distances T - 1 to -(T - 1) (Dai et al. 2019, arXiv 1901.02860): (2T - 1, dim) float32.

    num_past: further keys before the T frames, P: distances P + T - 1 to -(T - 1), (P + 2T - 1, dim).
    """
    distances = torch.arange(num_past + num_frames - 1, -num_frames, -1, device=device, dtype=torch.float32)
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

    def step(self, x: Tensor, inputs: LayerInputs, past: KeysValues) -> Tuple[Tensor, KeysValues]:
        """The next T frames of a stream, without dropout. Keys are kept as they were before the rotation: positions are
        counted from the first key that is kept, so that a stream may go on for ever.

        Args:
            x: (B, T, d) float.
            inputs: `keep`, to be broadcast to (B, 1, T, P + T), and `positions` of P + T frames.
            past: keys and values of the P frames before, (B, P, H, head_dim) each.

        Returns:
            (B, T, d), and keys and values of all P + T frames.
        """
        query, key, value = self.qkv(x).unflatten(-1, (3, self.num_heads, self.head_dim)).unbind(2)
        key, value = torch.cat([past[0], key], dim=1), torch.cat([past[1], value], dim=1)
        num_frames, keep, keys = x.shape[1], inputs.keep, key
        assert inputs.positions is not None
        if self.positions == "rotary":
            cosines, sines = inputs.positions
            query, keys = rotate(query, (cosines[-num_frames:], sines[-num_frames:])), rotate(key, inputs.positions)
        else:
            keep = self._distance_scores(query, inputs.positions[0], keep)
            query = query + self.content_bias.to(query.dtype)
        attended = attend(query.transpose(1, 2), keys.transpose(1, 2), value.transpose(1, 2), keep)
        return self.output(_join_heads(attended)), (key, value)

    def _parts(self, num_rows: int, clean_rows: int) -> Tuple[List[int], List[float]]:
        """How many rows are computed alike, and their dropout on attention weights."""
        if not self.training or self.dropout == 0:
            return [num_rows], [0.0]
        parts = [(num_rows - clean_rows, self.dropout), (clean_rows, 0.0)]
        return [count for count, _ in parts if count], [p for count, p in parts if count]

    def _distance_scores(self, query: Tensor, table: Tensor, keep: Optional[Tensor]) -> Tensor:
        """Scores that depend on the distance of query and key, -inf where `keep` is False.

        query: (B, T, H, head_dim) float, table: (P + 2T - 1, d) float -> (B, H, T, P + T) float.
        """
        num_frames = query.shape[1]
        distances = self.distance(table.to(query.dtype)).view(-1, self.num_heads, self.head_dim)
        query = (query + self.distance_bias.to(query.dtype)) * self.head_dim**-0.5
        scores = torch.einsum("bthd,rhd->bhtr", query, distances)  # column r: distance P + T - 1 - r
        scores = _row_t_moved_left(scores, num_frames)
        if keep is None:
            return scores
        return scores.masked_fill(~keep, float("-inf")) if keep.dtype == torch.bool else scores + keep.to(scores.dtype)


def _row_t_moved_left(scores: Tensor, num_frames: int) -> Tensor:
    """Of row t the columns from T - 1 - t on. scores: (B, H, T, P + 2T - 1) -> (B, H, T, P + T)."""
    num_keys = scores.shape[-1] - num_frames + 1
    if is_compiling():  # plain operations
        scores = F.pad(scores, (1, 0)).flatten(2)[..., num_frames:]
        return scores.view(*scores.shape[:2], num_frames, -1)[..., :num_keys]
    row, column = scores.stride()[2:]
    strides = (*scores.stride()[:2], row - column, column)
    return scores.as_strided((*scores.shape[:3], num_keys), strides, scores.storage_offset() + (num_frames - 1) * column)


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
