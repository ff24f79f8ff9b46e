"""Speech of a different utterance of the batch over a part of this one."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fairseq_birq.devices import to_device
from fairseq_birq.disturbance.base import PREFIX, Disturbance, Disturbed, add_at_snr, between, checked_range, sums
from fairseq_birq.errors import UserError
from fairseq_birq.objective.masking import uniforms
from fairseq_birq.settings import setting

_PARTNER = 5  # a stream of the keys' random numbers, whose positions are the partners' ids


@dataclass
class OverlapConfig:
    """Overlapped speech from the same batch."""

    prob: float = setting(0.0, "share of the utterances that speech of a different one is added to; 0 = off")
    min_share: float = setting(0.1, "length of the overlap in that of the utterance, at least")
    max_share: float = setting(0.5, "and at most; a shorter partner gives all that it has")
    min_snr_db: float = setting(-5.0, "the utterance's mean power over that of its partner, at least")
    max_snr_db: float = setting(5.0, "and at most; drawn evenly in dB")


class Overlap(Disturbance):
    """Utterance mixing, after WavLM (Chen et al. 2022, arXiv 2110.13900, section IV-B).

    The partner is the utterance of the batch with the smallest draw of (this utterance's key, its id): the order of the batch
    does not matter, but who is in it does. The partner is clean, and its power is that of all of it, so that a pause is not
    made loud.
    """

    name, stream, Config, realised = "overlap", 6, OverlapConfig, ("overlap_snr_db",)

    def __init__(self, prob: float, min_share: float, max_share: float, min_snr_db: float, max_snr_db: float):
        super().__init__(prob)
        self.share = checked_range(f"{PREFIX}.overlap", "min_share", min_share, "max_share", max_share)
        if min_share < 0 or max_share > 1:
            raise UserError(
                f"`{PREFIX}.overlap.min_share` and `max_share` must be in [0, 1], but are {min_share} and {max_share}"
            )
        self.snr_db = checked_range(f"{PREFIX}.overlap", "min_snr_db", min_snr_db, "max_snr_db", max_snr_db)

    @classmethod
    def build(cls, cfg: OverlapConfig, sample_rate: int) -> "Overlap":
        return cls(cfg.prob, cfg.min_share, cfg.max_share, cfg.min_snr_db, cfg.max_snr_db)

    def apply_to(self, disturbed: Disturbed, rows):
        batch, device = disturbed.batch, disturbed.x.device
        if len(batch.ids) < 2:
            nobody = torch.zeros(len(rows), dtype=torch.bool, device=device)
            return sums(self.name, nobody, torch.zeros(len(rows), dtype=torch.float64))
        partners = _partners(disturbed, rows)
        share, here, there, level = self.draws(disturbed.keys[rows], 4)
        lengths, theirs = disturbed.lengths[rows], torch.tensor(batch.num_samples)[partners]
        count = torch.minimum((between(share, *self.share) * lengths).round().long(), theirs)
        begin, their_begin = (here * (lengths - count + 1)).long(), (there * (theirs - count + 1)).long()
        speech = batch.waveform.index_select(0, to_device(partners, device)).float()
        speech.masked_fill_(batch.padding_mask.index_select(0, to_device(partners, device)), 0.0)
        power = torch.linalg.vector_norm(speech, dim=1).square() / to_device(theirs.clamp(min=1).float(), device)
        table = to_device(torch.stack([begin, begin + count, their_begin - begin])[:, :, None], device)
        begin, end, shift = table.unbind(0)
        steps = torch.arange(speech.shape[1], device=device)
        piece = speech.gather(1, (steps + shift).clamp_(0, speech.shape[1] - 1)).mul_((steps >= begin) & (steps < end))
        snr_db = between(level, *self.snr_db)
        heard = add_at_snr(disturbed, rows, piece, power, snr_db) & (end > begin)[:, 0]
        return sums(self.name, heard, snr_db)


def _partners(disturbed: Disturbed, rows: Tensor) -> Tensor:
    """Who speaks over some of the R utterances: (Q,) int64 on the host, rows of the batch."""
    drawn = uniforms(disturbed.keys[rows][:, None], disturbed.batch.ids[None, :], _PARTNER)
    drawn[torch.arange(len(rows)), disturbed.rows[rows]] = 1.0  # nobody speaks over himself
    return drawn.argmin(1)
