"""The convolutional frontend of wav2vec 2.0 (Baevski et al. 2020, arXiv 2006.11477, section 2), 50 Hz."""

import math
from dataclasses import dataclass
from typing import List, Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairseq_birq.errors import UserError
from fairseq_birq.frontends.logmel import at_least_zero, frames_padding
from fairseq_birq.modules.row_dropout import RowDropout
from fairseq_birq.settings import setting
from fairseq_birq.structs import Features

_VARIANCE_FLOOR = 1e-7  # that of Hugging Face's Wav2Vec2FeatureExtractor: exports see the same waveforms


@dataclass
class WaveformConfig:
    """Settings of the waveform frontend."""

    waveform_dim: int = setting(512, "channels of the CNN (waveform)")
    waveform_kernels: List[int] = setting(lambda: [10, 3, 3, 3, 3, 2, 2], "frames that each layer of the CNN sees (waveform)")
    waveform_strides: List[int] = setting(lambda: [5, 2, 2, 2, 2, 2, 2], "steps of each layer of the CNN (waveform)")


class WaveformFrontend(nn.Module):
    """wav2vec 2.0's CNN in its layer-norm mode (the LARGE model's), on waveforms of zero mean and unit variance.

    No normalisation over time: group norm would see the padding. Convolutions have no padding of their own, so a
    frame inside the utterance never sees samples after its end.

    Raises:
        UserError: `kernels` and `strides` differ in length.
    """

    Config = WaveformConfig
    frames_per_step = 1

    def __init__(
        self, dim, waveform_dim=512, kernels=(10, 3, 3, 3, 3, 2, 2), strides=(5, 2, 2, 2, 2, 2, 2), dropout=0.0, sample_rate=16000
    ):
        super().__init__()
        if len(kernels) != len(strides):
            sizes = f"{len(kernels)} entries and `frontend.waveform_strides` has {len(strides)}"
            raise UserError(f"`frontend.waveform_kernels` has {sizes}: give one of each per layer")
        self.sample_rate, self.dim, self.feature_dim = sample_rate, dim, waveform_dim
        self.kernels, self.strides = tuple(kernels), tuple(strides)
        self.step_samples = math.prod(self.strides)
        channels = [1] + [waveform_dim] * len(self.kernels)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(*pair, kernel, stride=stride, bias=False)
            for pair, kernel, stride in zip(zip(channels, channels[1:]), self.kernels, self.strides)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(waveform_dim) for _ in self.kernels)
        self.feature_norm = nn.LayerNorm(waveform_dim)
        self.projection = nn.Linear(waveform_dim, dim)
        self.dropout = RowDropout(dropout)
        for convolution in self.convolutions:
            nn.init.kaiming_normal_(convolution.weight)

    @classmethod
    def settings(cls, cfg) -> dict:
        """Keyword arguments, but for `dim`. cfg: a `FrontendConfig`."""
        sizes = dict(waveform_dim=cfg.waveform_dim, kernels=list(cfg.waveform_kernels), strides=list(cfg.waveform_strides))
        return dict(**sizes, dropout=cfg.dropout, sample_rate=cfg.sample_rate)

    def features(self, waveform: Tensor, padding_mask: Optional[Tensor] = None) -> Features:
        """What masking acts on. waveform: (B, S) float, padding_mask: (B, S) bool -> Features (B, F, waveform_dim)."""
        num_frames = self.feature_length(waveform.shape[1])
        padding = frames_padding(self, waveform, padding_mask, num_frames)
        if num_frames == 0:
            return Features(self.convolutions[0].weight.new_zeros(waveform.shape[0], 0, self.feature_dim), padding)
        x = _normalise_waveform(waveform, padding_mask).to(self.convolutions[0].weight.dtype)[:, None]
        for convolution, norm in zip(self.convolutions, self.norms):
            x = F.gelu(norm(convolution(x).transpose(1, 2))).transpose(1, 2)
        x = self.feature_norm(x.transpose(1, 2))
        return Features(x.masked_fill(padding[..., None], 0.0), padding)

    def check_streams(self) -> None:
        """Raises UserError: the waveform is normalised with the whole utterance."""
        raise UserError(
            "`model.frontend.name: waveform` normalises the whole utterance, whose end a stream has not heard: pre-train with "
            "`model.frontend.name: logmel` and `feature_norm: running`"
        )

    def subsample(self, features: Features, clean_rows: int = 0):
        """Features (B, F, waveform_dim) -> hidden: (B, F, dim) float, padding_mask: (B, F) bool."""
        hidden = self.projection(features.x) * ~features.padding_mask[..., None]
        return self.dropout(hidden, clean_rows), features.padding_mask

    def feature_length(self, num_samples):
        """Feature frames of `num_samples` samples, int or tensor; 0 if shorter than the CNN's receptive field."""
        length = num_samples
        for kernel, stride in zip(self.kernels, self.strides):
            length = at_least_zero((length - kernel) // stride + 1)
        return length

    def output_length(self, num_samples):
        """Encoder frames of `num_samples` samples, int or tensor."""
        return self.feature_length(num_samples)


@torch.no_grad()
def _normalise_waveform(waveform: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
    """Zero mean and unit variance over each utterance's own samples, statistics in float64. (B, S) -> (B, S) float32."""
    x = waveform.double()
    valid = torch.ones_like(x) if padding_mask is None else (~padding_mask).double()
    num_valid = valid.sum(1, keepdim=True).clamp(min=1)
    centred = (x - (x * valid).sum(1, keepdim=True) / num_valid) * valid
    variance = centred.square().sum(1, keepdim=True) / num_valid
    return (centred * (variance + _VARIANCE_FLOOR).rsqrt()).float()
