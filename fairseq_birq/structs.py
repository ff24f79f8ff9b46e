"""Typed results that stages hand to each other, and the one legend of shape letters.

| letter | meaning |
| --- | --- |
| B | utterances in the batch |
| S | audio samples of the longest utterance |
| F | feature frames (10 ms log-Mel frames, or the waveform CNN's frames) |
| T | encoder frames after subsampling (40 ms, or 20 ms with the waveform CNN) |
| D | feature dimension; `d` is the encoder's width |
| N | codebooks |
| V | codes per codebook |
| M | masked, non-padded encoder frames: the only frames that carry a loss |

`padding_mask` is True on padding and `mask` is True on masked frames, everywhere.
"""

from dataclasses import dataclass
from typing import List, Optional

from torch import Tensor


@dataclass
class Features:
    """Frames on their way to the encoder."""

    x: Tensor  # (B, F, D) float; zero on padding
    padding_mask: Tensor  # (B, F) bool


@dataclass
class Encoded:
    """Hidden states of an encoder, one tensor per layer that was run."""

    layers: List[Tensor]  # each (B, T, d); layers[i] is the output of layer i + 1
    padding_mask: Tensor  # (B, T) bool
    subsampled: Optional[Tensor] = None  # (B, T, d): what went into the first layer ("layer -1" of Latent-RQ)

    @property
    def last(self) -> Tensor:
        return self.layers[-1]
