"""All disturbances of a batch, one after the other, on the utterances that they hit."""

from typing import Dict, List, NamedTuple, Optional

import torch
from torch import Tensor, nn

from fairseq_birq.devices import to_device
from fairseq_birq.disturbance.base import Batch, Disturbance, Disturbed
from fairseq_birq.disturbance.frequency_masks import FrequencyMasks
from fairseq_birq.structs import Features


class Heard(NamedTuple):
    """The disturbed utterances of a batch."""

    rows: Tensor  # (R,) int64, which of the batch; on its device
    x: Tensor  # (R, S) float32; zero on padding
    realised: Dict[str, Tensor]  # sums over the batch, float64 scalars; `utterances` is their number


class Disturber(nn.Module):
    """Disturbs waveforms in training. Its draws are functions of (seed, update, utterance id), as masks are.

    Only rows that something hits are computed, once for all masked views. What is hit and how is known on the host; nothing
    waits for the device.

    Args:
        kinds: of waveforms, in their order.
        frequency_masks: of features, or None.
    """

    def __init__(self, kinds: List[Disturbance], frequency_masks: Optional[FrequencyMasks] = None):
        super().__init__()
        self.frequency_masks = frequency_masks
        self.kinds = nn.ModuleList(kinds)

    def open(self) -> None:
        """Read all recordings now. Raises UserError where some cannot be used."""
        for kind in self.kinds:
            kind.open()

    @torch.no_grad()
    def forward(self, batch: Batch) -> Heard:
        hits = torch.stack([torch.zeros_like(batch.keys, dtype=torch.bool), *(kind.hits(batch.keys) for kind in self.kinds)])
        spoken = torch.tensor(batch.num_samples, dtype=torch.int64) > 0  # the stand-in of an empty batch counts for nothing
        hits &= spoken
        rows = hits.any(0).nonzero().squeeze(1)
        disturbed = start(batch, rows)
        realised = {name: torch.zeros((), dtype=torch.float64, device=disturbed.x.device) for name in self._names()}
        realised["utterances"] = realised["utterances"] + sum(samples > 0 for samples in batch.num_samples)
        realised["disturbed"] = realised["disturbed"] + len(rows)
        if self.frequency_masks is not None:
            share = self.frequency_masks.hidden(batch.keys)[spoken].double().mean(1).sum().item()
            realised["hidden_bins"] = realised["hidden_bins"] + share
        for kind, hit in zip(self.kinds, hits[1:, rows]):
            if kind.name != "reverberation" and disturbed.speech_power is None:
                disturbed.speech_power = disturbed.power(disturbed.x, torch.arange(len(rows)))
            if hit.any():
                realised.update(kind.apply_to(disturbed, hit.nonzero().squeeze(1)))
        return Heard(to_device(rows, batch.waveform.device), disturbed.x, realised)

    def features(self, frontend, clean: Features, batch: Batch):
        """The features of the disturbed batch, (B, F, D), and what was realised. clean: those of the clean one."""
        heard, features = self(batch), clean
        if len(heard.rows):
            x = frontend.features(heard.x, batch.padding_mask.index_select(0, heard.rows)).x
            features = Features(clean.x.index_copy(0, heard.rows, x.to(clean.x.dtype)), clean.padding_mask)
        return self.hide_bins(features, batch.keys), heard.realised

    def waveform(self, batch: Batch):
        """The disturbed batch, (B, S), and what was realised."""
        heard = self(batch)
        return batch.waveform.index_copy(0, heard.rows, heard.x.to(batch.waveform.dtype)), heard.realised

    def hide_bins(self, features: Features, keys: Tensor) -> Features:
        """keys: (B,) int64 on the host."""
        return features if self.frequency_masks is None else self.frequency_masks(features, keys)

    def _names(self):
        yield from ("utterances", "disturbed")
        for kind in self.kinds:
            yield from (kind.name, *kind.realised)
        if self.frequency_masks is not None:
            yield "hidden_bins"


def start(batch: Batch, rows: Tensor) -> Disturbed:
    """Copies of some utterances. rows: (R,) int64 on the host."""
    index = to_device(rows, batch.waveform.device)
    valid = ~batch.padding_mask.index_select(0, index)
    x = batch.waveform.index_select(0, index).float().mul_(valid)
    return Disturbed(x, valid, rows, batch.keys[rows], torch.tensor(batch.num_samples, dtype=torch.int64)[rows], batch)
