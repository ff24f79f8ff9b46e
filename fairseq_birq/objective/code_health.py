"""Numbers that tell whether codes are healthy, from how often each code occurred."""

import math

import torch
from torch import Tensor


def entropy(histogram: Tensor) -> Tensor:
    """Entropy in nats. histogram: (..., V) counts -> (...); 0 where nothing was counted."""
    probabilities = histogram.double() / histogram.sum(-1, keepdim=True).clamp(min=1)
    return -(probabilities * probabilities.clamp(min=1e-300).log()).sum(-1)


def perplexity(histogram: Tensor) -> Tensor:
    """`exp H(code)`: how many equally frequent codes would be as varied. histogram: (..., V) -> (...)."""
    return entropy(histogram).exp()


def top_share(histogram: Tensor) -> Tensor:
    """Share of the most frequent code: the accuracy of a guess that never listens. histogram: (..., V) -> (...)."""
    return histogram.amax(-1).double() / histogram.sum(-1).clamp(min=1)


def used_share(histogram: Tensor) -> Tensor:
    """Fraction of the codes that occurred. histogram: (..., V) -> (...)."""
    return (histogram > 0).double().mean(-1)


def bits_per_second(histogram: Tensor, frames_per_second: float) -> Tensor:
    """Entropy of the codes in bits times their rate, as the ZeroSpeech 2019 challenge defines a bitrate.

    histogram: (..., V) -> (...)
    """
    return entropy(histogram) / math.log(2) * frames_per_second


def repeated_share(codes: Tensor, is_first: Tensor) -> Tensor:
    """Share of frames that have the code of the frame before, of those that have one.

    codes: (M, N), is_first: (M,) bool, True on the first frame of each utterance -> (N,) float64; 0 without such frames
    """
    follows = ~is_first[1:]
    same = (codes[1:] == codes[:-1]) & follows[:, None]
    return same.sum(0).double() / follows.sum().clamp(min=1)


def normalised_mutual_information(a: Tensor, b: Tensor) -> Tensor:
    """`2 I(a; b) / (H(a) + H(b))` of two codes of the same frames; biased upwards where frames are few.

    a, b: (M,) int64 -> () float64 in [0, 1]; 0 where either is constant or there are no frames.
    """
    counts = [torch.unique(codes, return_counts=True)[1] for codes in (a, b)]
    pairs = torch.unique(torch.stack([a, b]), dim=1, return_counts=True)[1]
    first, second = (entropy(count) for count in counts)
    both = first + second
    return torch.where(both > 0, 2 * (both - entropy(pairs)) / both.clamp(min=1e-12), torch.zeros_like(both))
