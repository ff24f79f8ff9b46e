"""From a waveform to the hidden states of all layers: what pre-training makes and everything else uses."""

from typing import Any, Callable, Optional

import torch
from torch import Tensor, nn

from fairseq_birq.encoders.base import Encoder
from fairseq_birq.structs import Encoded, Features


class SpeechEncoder(nn.Module):
    """A frontend and an encoder: plain PyTorch, no quantizer, no heads, no fairseq needed to call it.

    Args:
        frontend: see `fairseq_birq.frontends`.
        encoder: see `fairseq_birq.encoders`.
    """

    frontend: Any  # see `fairseq_birq.frontends`
    encoder: Encoder

    def __init__(self, frontend: nn.Module, encoder: Encoder):
        super().__init__()
        self.frontend = frontend
        self.encoder = encoder

    @property
    def dim(self) -> int:
        return self.encoder.dim

    def output_length(self, num_samples):
        """Encoder frames of `num_samples` samples (int or tensor)."""
        return self.frontend.output_length(num_samples)

    def forward(
        self,
        waveform: Tensor,
        padding_mask: Optional[Tensor] = None,
        num_layers: Optional[int] = None,
        mask_features: Optional[Callable[[Features], Features]] = None,
    ) -> Encoded:
        """Hidden states of layers 1 to `num_layers`.

        Args:
            waveform: (B, S) float in [-1, 1] at the frontend's sample rate.
            padding_mask: (B, S) bool, or None where nothing is padded.
            num_layers: stop there; None runs all.
            mask_features: applied to the normalised features before subsampling.
        """
        if padding_mask is None:
            padding_mask = waveform.new_zeros(waveform.shape, dtype=torch.bool)
        features = self.frontend.features(waveform, padding_mask)
        if mask_features is not None:
            features = mask_features(features)
        hidden, frame_padding_mask = self.frontend.subsample(features)
        return self.encoder(hidden, frame_padding_mask, num_layers)
