"""Several CTC frames out of each encoder frame, where letters need more frames than the encoder has."""

from torch import Tensor


def ctc_frames(scores: Tensor, upsample: int) -> Tensor:
    """Each encoder frame's scores are those of `upsample` frames, one after the other: (B, T, U * V) -> (B, T * U, V)."""
    batch, steps, width = scores.shape
    return scores.view(batch, steps * upsample, width // upsample)
