"""Reverberation: convolution with impulse responses of rooms."""

from dataclasses import dataclass
from typing import Optional

import numpy as np
import torch
from torch import Tensor, nn

from fairseq_birq.devices import to_device
from fairseq_birq.disturbance.base import PREFIX, Disturbance, Disturbed
from fairseq_birq.disturbance.recordings import Recordings, needs_manifest
from fairseq_birq.errors import UserError
from fairseq_birq.settings import setting


@dataclass
class ReverberationConfig:
    """Reverberation."""

    prob: float = setting(0.0, "share of the utterances that are reverberated; 0 = off")
    manifest: Optional[str] = setting(None, "path of a .tsv of impulse responses of rooms, as birq-manifest makes them")
    max_ms: float = setting(1000.0, "an impulse response is cut so long after its strongest sample")
    max_minutes: float = setting(15.0, "of impulse responses that a process holds in memory: 3.8 MB a minute at 16 kHz")


class Reverberation(Disturbance):
    """Convolves utterances with impulse responses.

    A response counts from its strongest sample on, the direct sound: speech stays where it is, so that the targets of the
    clean view are those of the same frames. Each has unit energy. What would sound on after the utterance's end is dropped.
    """

    name, stream, Config = "reverberation", 7, ReverberationConfig

    def __init__(self, prob: float, recordings: Recordings):
        super().__init__(prob)
        self.recordings = recordings

    @classmethod
    def build(cls, cfg: ReverberationConfig, sample_rate: int) -> "Reverberation":
        needs_manifest(f"{PREFIX}.reverberation", cfg.prob, cfg.manifest)
        most = int(cfg.max_ms / 1000 * sample_rate)
        if most < 1:
            raise UserError(f"`{PREFIX}.reverberation.max_ms` must be above 0, but is {cfg.max_ms}")
        key = f"{PREFIX}.reverberation.manifest"
        return cls(
            cfg.prob, Recordings(key, cfg.manifest, sample_rate, cfg.max_minutes, lambda wave: from_direct_sound(wave, most))
        )

    def open(self):
        self.recordings.open()

    def apply_to(self, disturbed: Disturbed, rows):
        self.open()
        (which,) = self.draws(disturbed.keys[rows], 1)
        which, device = (which * len(self.recordings)).long(), disturbed.x.device
        one_by_one = device.type == "cpu"  # 0.4 of the time of all together in float64
        (self._row_by_row if one_by_one else self._together)(disturbed, rows, which)
        return {self.name: torch.full((), float(len(rows)), dtype=torch.float64, device=device)}

    def _row_by_row(self, disturbed: Disturbed, rows: Tensor, which: Tensor) -> None:
        """Each utterance at its own length, so that neither the batch nor its padding can be seen in the float32 result."""
        bank, samples = self.recordings, self.recordings.samples(disturbed.x.device)
        places = zip(rows.tolist(), disturbed.lengths[rows].tolist(), bank.starts[which].tolist(), bank.lengths[which].tolist())
        for row, count, start, length in places:
            if count:
                x = disturbed.x[row : row + 1, :count]
                x.copy_(convolve(x, samples[None, start : start + length]))

    def _together(self, disturbed: Disturbed, rows: Tensor, which: Tensor) -> None:
        """All in one batch: few launches. In float64, which hides the batch and its padding in the float32 result."""
        lengths, device = self.recordings.lengths[which], disturbed.x.device
        longest = int(self.recordings.lengths.max())  # of all, whoever is hit
        responses = self.recordings.pieces(which, torch.zeros_like(which), longest, device)
        responses.mul_(torch.arange(longest, device=device) < to_device(lengths[:, None], device))
        index = to_device(rows, device)
        wet = convolve(disturbed.x.index_select(0, index).double(), responses.double()).float()
        disturbed.x.index_copy_(0, index, wet.mul_(disturbed.valid_of(rows)))


def from_direct_sound(response: np.ndarray, max_samples: int) -> np.ndarray:
    """(S,) float -> the response from its strongest sample on, of unit energy, at most so long."""
    response = response[int(np.abs(response).argmax()) :][:max_samples].astype(np.float64)
    return response / np.linalg.norm(response)


def convolve(x: Tensor, responses: Tensor) -> Tensor:
    """Row by row, cut to the length of x, by overlap and save: (Q, S), (Q, L) float -> (Q, S).

    Blocks lie where they lie whatever S is.
    """
    before, samples = responses.shape[1] - 1, x.shape[1]
    size = 1 << (4 * responses.shape[1] - 1).bit_length()
    step = size - before
    blocks = -(-samples // step)
    x = nn.functional.pad(x, (before, blocks * step - samples)).unfold(1, size, step)  # (Q, blocks, size)
    spectrum = torch.fft.rfft(x).mul_(torch.fft.rfft(responses, n=size)[:, None])
    return torch.fft.irfft(spectrum, n=size)[..., before:].flatten(1)[:, :samples]
