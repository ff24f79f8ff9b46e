"""Additive noise from recordings."""

from dataclasses import dataclass
from typing import Optional

from fairseq_birq.disturbance.base import PREFIX, Disturbance, Disturbed, add_at_snr, between, checked_range, sums
from fairseq_birq.disturbance.recordings import Recordings, needs_manifest
from fairseq_birq.settings import setting


@dataclass
class NoiseConfig:
    """Additive noise."""

    prob: float = setting(0.0, "share of the utterances that noise is added to; 0 = off")
    manifest: Optional[str] = setting(None, "path of a .tsv of noises, as birq-manifest makes them")
    min_snr_db: float = setting(0.0, "the utterance's mean power over that of the noise, at least")
    max_snr_db: float = setting(20.0, "and at most; drawn evenly in dB")
    max_minutes: float = setting(60.0, "of noises that a process holds in memory: 3.8 MB a minute at 16 kHz")


class Noise(Disturbance):
    """A piece of a noise over the whole utterance; a short noise goes round."""

    name, stream, Config, realised = "noise", 4, NoiseConfig, ("noise_snr_db",)

    def __init__(self, prob: float, recordings: Recordings, min_snr_db: float, max_snr_db: float):
        super().__init__(prob)
        self.recordings = recordings
        self.snr_db = checked_range(f"{PREFIX}.noise", "min_snr_db", min_snr_db, "max_snr_db", max_snr_db)

    @classmethod
    def build(cls, cfg: NoiseConfig, sample_rate: int) -> "Noise":
        needs_manifest(f"{PREFIX}.noise", cfg.prob, cfg.manifest)
        recordings = Recordings(f"{PREFIX}.noise.manifest", cfg.manifest, sample_rate, cfg.max_minutes)
        return cls(cfg.prob, recordings, cfg.min_snr_db, cfg.max_snr_db)

    def open(self):
        self.recordings.open()

    def apply_to(self, disturbed: Disturbed, rows):
        which, place, level = self.draws(disturbed.keys[rows], 3)
        self.open()
        which = (which * len(self.recordings)).long()
        offsets = (place * self.recordings.lengths[which]).long()
        added = self.recordings.pieces(which, offsets, disturbed.x.shape[1], disturbed.x.device)
        added.mul_(disturbed.valid_of(rows))
        snr_db = between(level, *self.snr_db)
        return sums(self.name, add_at_snr(disturbed, rows, added, disturbed.power(added, rows), snr_db), snr_db)
