"""MFCC with their differences: what HuBERT's first labels are clusters of. No frontend: an encoder hears log-Mel."""

import math
from typing import Optional

import torch
from torch import Tensor

from fairseq_birq.frontends.logmel import LogMel
from fairseq_birq.modules.float32_buffers import KeepsFloat32
from fairseq_birq.structs import Features

_LIFTER = 22.0  # Kaldi's
_REACH = 2  # frames on either side of a difference


class Mfcc(KeepsFloat32):
    """13 cepstra of Kaldi's `compute-mfcc-feats`, first and second differences: 39 dimensions every 10 ms.

    As in HuBERT (arXiv 2106.07447, section IV-B): 23 Mel bins, no energy in place of the first cepstrum. Differences are
    regressions over two frames on either side, where an utterance's first and last frame go on for ever. An utterance has
    the same features alone and in any batch.

    Raises:
        UserError: a Mel filter has no FFT bin.
    """

    dct: Tensor

    def __init__(self, sample_rate=16000, window_ms=25.0, hop_ms=10.0, num_mels=23, num_ceps=13):
        super().__init__()
        self.log_mel = LogMel(sample_rate, num_mels, window_ms, hop_ms)
        self.dim = 3 * num_ceps
        cepstrum, mel = torch.arange(num_ceps, dtype=torch.float64), torch.arange(num_mels, dtype=torch.float64)
        dct = torch.cos(math.pi / num_mels * (mel[:, None] + 0.5) * cepstrum) * math.sqrt(2.0 / num_mels)
        dct[:, 0] = math.sqrt(1.0 / num_mels)
        lifter = 1.0 + 0.5 * _LIFTER * torch.sin(math.pi * cepstrum / _LIFTER)
        self.register_buffer("dct", dct * lifter, persistent=False)  # (num_mels, num_ceps) float64

    def settings(self) -> str:
        """What the features depend on, for fingerprints."""
        return f"mfcc of {self.log_mel.settings()}"

    @torch.no_grad()
    def forward(self, waveform: Tensor, padding_mask: Optional[Tensor] = None) -> Features:
        """waveform: (B, S) float in [-1, 1], padding_mask: (B, S) bool or None -> Features (B, F, 39) float32."""
        log_mel = self.log_mel(waveform, padding_mask)
        lengths = (~log_mel.padding_mask).sum(1)
        static = log_mel.x.double() @ self.dct
        first = differences(static, lengths)
        x = torch.cat([static, first, differences(first, lengths)], dim=-1)
        return Features(x.masked_fill(log_mel.padding_mask[..., None], 0.0).float(), log_mel.padding_mask)


def differences(x: Tensor, lengths: Tensor) -> Tensor:
    """Slope of a regression over two frames on either side, as HTK's. x: (B, F, D), lengths: (B,) valid frames."""
    frame = torch.arange(x.shape[1], device=x.device)
    last = (lengths[:, None] - 1).clamp(min=0)
    slope = torch.zeros_like(x)
    for reach in range(1, _REACH + 1):
        for sign in (1, -1):
            place = torch.minimum((frame + sign * reach).clamp(min=0), last)
            slope += sign * reach * x.gather(1, place[..., None].expand(-1, -1, x.shape[2]))
    return slope / (2 * sum(reach**2 for reach in range(1, _REACH + 1)))
