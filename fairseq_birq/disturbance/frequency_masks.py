"""Frequency masks of SpecAugment, on normalised log-Mel features."""

from dataclasses import dataclass
from typing import Optional

import torch
from torch import Tensor, nn

from fairseq_birq.devices import to_device
from fairseq_birq.errors import UserError
from fairseq_birq.frontends.logmel import LogMelFrontend
from fairseq_birq.objective.masking import uniforms
from fairseq_birq.settings import setting
from fairseq_birq.structs import Features

_KEY = "model.disturbance.frequency_masks"
_STREAM = 9


@dataclass
class FrequencyMaskConfig:
    """Frequency masks."""

    count: int = setting(0, "bands of Mel bins that are hidden in every utterance; 0 = off")
    max_bins: int = setting(27, "a band has 0 to so many bins, drawn evenly")


class FrequencyMasks(nn.Module):
    """Hides bands of Mel bins from the encoder for whole utterances (Park et al. 2019, arXiv 1904.08779, section 2).

    A hidden bin is 0, the mean of a bin that is normalised per utterance. Bands may overlap.

    Args:
        num_bins: of the features.
    """

    name, Config = "frequency_masks", FrequencyMaskConfig

    def __init__(self, num_bins: int, count: int, max_bins: int):
        super().__init__()
        if not 0 <= max_bins <= num_bins:
            raise UserError(f"`{_KEY}.max_bins` must be from 0 to the {num_bins} Mel bins that there are, but is {max_bins}")
        self.num_bins, self.count, self.max_bins = num_bins, count, max_bins

    @classmethod
    def build(cls, cfg: FrequencyMaskConfig, frontend) -> Optional["FrequencyMasks"]:
        """None where there are none. Raises UserError for a frontend without Mel bins, and numbers that cannot be."""
        if cfg.count < 0:
            raise UserError(f"`{_KEY}.count` must be at least 0, but is {cfg.count}")
        if cfg.count == 0:
            return None
        if not isinstance(frontend, LogMelFrontend):
            raise UserError(
                f"`{_KEY}.count` is {cfg.count}, but a frontend without Mel bins has no frequencies to hide; set it to 0"
            )
        return cls(frontend.feature_dim, cfg.count, cfg.max_bins)

    def hidden(self, keys: Tensor) -> Tensor:
        """Which bins an utterance goes without. keys: (B,) int64 on the host -> (B, D) bool."""
        width, place = uniforms(keys[:, None], torch.arange(2 * self.count), _STREAM)[..., None].chunk(2, dim=1)
        width = (width * (self.max_bins + 1)).floor()
        begin = (place * (self.num_bins - width + 1)).floor()
        bins = torch.arange(self.num_bins)
        return ((bins >= begin) & (bins < begin + width)).any(1)

    def forward(self, features: Features, keys: Tensor) -> Features:
        hidden = to_device(self.hidden(keys), features.x.device)
        return Features(features.x.masked_fill(hidden[:, None], 0.0), features.padding_mask)
