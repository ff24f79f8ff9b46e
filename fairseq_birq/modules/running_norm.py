"""Normalisation of features that sees no future: statistics of what was heard so far."""

from typing import NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from fairseq_birq.structs import Features

_PRIOR_FRAMES = 100  # a second's worth of the values below, before anything is heard
_PRIOR_MEAN, _PRIOR_VARIANCE = 14.0, 25.0  # of Kaldi's log-Mel: Mboshi has 14.3 and 5.5^2, spoken digits 9.9 and 3.3^2


class Heard(NamedTuple):
    """What is known of an utterance's frames so far, relative to the mean that is assumed before it."""

    num_frames: Tensor  # () float64
    sums: Tensor  # (B, D) float64
    squares: Tensor  # (B, D) float64


def nothing_heard(batch: int, num_features: int, device=None) -> Heard:
    zeros = torch.zeros(batch, num_features, dtype=torch.float64, device=device)
    return Heard(torch.zeros((), dtype=torch.float64, device=device), zeros, zeros.clone())


def normalise_running(features: Features, heard: Optional[Heard] = None) -> Tuple[Features, Heard]:
    """Zero mean and unit variance per bin over the utterance's frames up to each frame, that one included.

    A second of assumed statistics counts as heard before the first frame, so that the first frames are not zeros. Sums are
    float64, so that the batch's padding cannot change the float32 result.

    Args:
        features: (B, F, D); in a stream the next F frames.
        heard: what came before them; None: nothing.

    Returns:
        the features, and what is heard by their end. With padding, what is heard means nothing.
    """
    batch, num_frames, dim = features.x.shape
    before = nothing_heard(batch, dim, features.x.device) if heard is None else heard
    x = features.x.double() - _PRIOR_MEAN
    sums = before.sums[:, None] + x.cumsum(1)
    squares = before.squares[:, None] + x.square().cumsum(1)
    frames = torch.arange(1, num_frames + 1, dtype=torch.float64, device=x.device) + before.num_frames
    count = (frames + _PRIOR_FRAMES)[:, None]
    mean = sums / count
    variance = (squares + _PRIOR_FRAMES * _PRIOR_VARIANCE) / count - mean.square()
    x = ((x - mean) * variance.rsqrt()).float().masked_fill(features.padding_mask[..., None], 0.0)
    after = before
    if num_frames:
        after = Heard(before.num_frames + num_frames, sums[:, -1], squares[:, -1])
    return Features(x, features.padding_mask), after
