"""Louder and softer."""

from dataclasses import dataclass

import torch

from fairseq_birq.devices import to_device
from fairseq_birq.disturbance.base import PREFIX, Disturbance, Disturbed, between, checked_range
from fairseq_birq.settings import setting


@dataclass
class VolumeConfig:
    """Volume."""

    prob: float = setting(0.0, "share of the utterances whose volume is changed; 0 = off")
    min_db: float = setting(-10.0, "the change, at least")
    max_db: float = setting(10.0, "and at most; drawn evenly in dB")


class Volume(Disturbance):
    """Scales all that is heard. Features that are normalised per utterance hardly notice; those of `feature_norm: none` do."""

    name, stream, Config = "volume", 8, VolumeConfig

    def __init__(self, prob: float, min_db: float, max_db: float):
        super().__init__(prob)
        self.range_db = checked_range(f"{PREFIX}.volume", "min_db", min_db, "max_db", max_db)

    @classmethod
    def build(cls, cfg: VolumeConfig, sample_rate: int) -> "Volume":
        return cls(cfg.prob, cfg.min_db, cfg.max_db)

    def apply_to(self, disturbed: Disturbed, rows):
        (level,) = self.draws(disturbed.keys[rows], 1)
        gains = torch.ones(len(disturbed.rows))
        gains[rows] = (10.0 ** (between(level, *self.range_db) / 20.0)).float()
        disturbed.x.mul_(to_device(gains, disturbed.x.device)[:, None])
        return {self.name: torch.full((), float(len(rows)), dtype=torch.float64, device=disturbed.x.device)}
