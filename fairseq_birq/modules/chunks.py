"""Chunks of encoder frames: their length in milliseconds, and which keys a frame sees in them."""

import math
from typing import Optional

import torch
from torch import Tensor

from fairseq_birq.errors import UserError
from fairseq_birq.structs import Chunks


def chunk_frames(chunk_ms: float, frame_ms: float, what: str = "a chunk") -> int:
    """Encoder frames of a chunk.

    frame_ms: from one encoder frame to the next; what: the setting, for errors

    Raises:
        UserError: it is no number, shorter than a frame or not a whole number of frames.
    """
    is_number = isinstance(chunk_ms, (int, float)) and not isinstance(chunk_ms, bool) and math.isfinite(chunk_ms)
    if not is_number:
        raise UserError(f"{what} must be a number of milliseconds, but is {chunk_ms!r:.80}")
    if chunk_ms < frame_ms:
        raise UserError(f"{what} of {chunk_ms:g} ms is shorter than an encoder frame: give {frame_ms:g} ms or a multiple of it")
    frames = round(chunk_ms / frame_ms)
    if abs(frames * frame_ms - chunk_ms) > 1e-6 * chunk_ms:
        below = int(chunk_ms // frame_ms)
        near = f"{below * frame_ms:g} or {(below + 1) * frame_ms:g}"
        raise UserError(f"{what} of {chunk_ms:g} ms is not a whole number of encoder frames of {frame_ms:g} ms: give {near}")
    return frames


def checked_left(left, what: str = "left context") -> Optional[int]:
    """Chunks of left context; None: all. Raises UserError where that is neither a whole number from 0 on nor None."""
    if left is not None and (not isinstance(left, int) or isinstance(left, bool) or left < 0):
        raise UserError(f"{what} must be a whole number of chunks, 0 or more, but is {left!r:.80}")
    return left


def seen_in_chunks(num_frames: int, chunks: Chunks, device) -> Tensor:
    """(T, T) bool: whether the frame of a row sees that of a column."""
    chunk = torch.arange(num_frames, device=device) // chunks.num_frames
    back = chunk[:, None] - chunk[None, :]
    return back >= 0 if chunks.left is None else (back >= 0) & (back <= chunks.left)
