"""Targets of a slowly moving average of the encoder."""

from dataclasses import dataclass, replace
from typing import List, Optional

import torch
from torch import Tensor, nn

from fairseq_birq.modules.float32_buffers import KeepsFloat32
from fairseq_birq.settings import setting
from fairseq_birq.targets.base import TargetContext, TargetInputs, check_share
from fairseq_birq.targets.frozen_encoder import FrozenEncoder, FrozenEncoderTargets, frozen_parts
from fairseq_birq.targets.normalisation import MODES


@dataclass
class MovingAverageConfig:
    """Hard codes of a moving average of the encoder; its N codebooks are shared out over the layers."""

    layers: List[int] = setting(list, "counted from 1; 0 = what enters the first layer")
    normalisation: str = setting("standardize+layer", "normalisation of hidden states before the projection", MODES)
    statistics_momentum: float = setting(0.01, "share of a new batch in the running statistics of the normalisation")
    decay_start: float = setting(0.999, "share of the old average that an update keeps, in the beginning")
    decay_end: float = setting(0.9999, "the same in the end")
    decay_warmup_updates: int = setting(30000, "updates from the one to the other")
    seed: int = setting(4, "seed of the projections and codebooks")


class AveragedEncoder(KeepsFloat32, FrozenEncoder):
    """Keeps its weights in float32, where a half-precision average would stand still, and computes as the trained encoder."""

    compute_dtype = torch.float32

    def follow_precision(self, speech_encoder: nn.Module) -> None:
        """Compute in the type of the trained encoder's weights from now on."""
        self.compute_dtype = next(speech_encoder.parameters()).dtype

    def forward(self, inputs: TargetInputs) -> List[Tensor]:
        if self.compute_dtype not in (torch.float16, torch.bfloat16):
            return super().forward(inputs)
        with torch.autocast(inputs.waveform.device.type, dtype=self.compute_dtype):
            return super().forward(inputs)


class MovingAverageTargets(FrozenEncoderTargets):
    """Hard codes of an exponential moving average of the encoder, in place of Latent-RQ's snapshot.

    The decay grows linearly over the first updates as in data2vec (Baevski et al. 2022, arXiv 2202.03555, section 3.3);
    the average begins as a copy of the encoder. In fp16 and bf16 training it follows the rounded weights that compute, not
    the optimizer's float32 copies of them.

    Args:
        encoder, layers, normalisations, quantizers: see `FrozenEncoderTargets`.
        decay_start: share of the old average that an update keeps, in the beginning.
        decay_end: the same after `decay_warmup_updates`.
        decay_warmup_updates: updates in between.
    """

    name, Config = "moving_average", MovingAverageConfig

    encoder: AveragedEncoder

    def __init__(
        self,
        encoder: AveragedEncoder,
        layers,
        normalisations,
        quantizers,
        decay_start: float = 0.999,
        decay_end: float = 0.9999,
        decay_warmup_updates: int = 30000,
    ):
        super().__init__(encoder, layers, normalisations, quantizers)
        self.decay_start, self.decay_end, self.decay_warmup_updates = decay_start, decay_end, decay_warmup_updates
        self.num_updates: Optional[int] = None  # what the average has taken in; None: nothing yet

    @classmethod
    def build(cls, cfg: MovingAverageConfig, context: TargetContext) -> "MovingAverageTargets":
        for key in ("decay_start", "decay_end", "statistics_momentum"):
            check_share(f"moving_average.{key}", getattr(cfg, key))
        ours = replace(context, target_encoder=None)
        parts = frozen_parts(cfg, cls.name, ours, AveragedEncoder, momentum=cfg.statistics_momentum)
        return cls(**parts, decay_start=cfg.decay_start, decay_end=cfg.decay_end, decay_warmup_updates=cfg.decay_warmup_updates)

    def decay_at(self, num_updates: int) -> float:
        if num_updates >= self.decay_warmup_updates:
            return self.decay_end
        return self.decay_start + (self.decay_end - self.decay_start) * num_updates / self.decay_warmup_updates

    def update(self, speech_encoder, num_updates: int) -> bool:
        before, self.num_updates = self.num_updates, num_updates
        self.encoder.follow_precision(speech_encoder)
        if before is None:
            self.encoder.copy(speech_encoder)
        elif num_updates > before:
            self.encoder.average(speech_encoder, self.decay_at(num_updates))
        return False

    def get_extra_state(self):
        return {**super().get_extra_state(), "num_updates": self.num_updates}

    def set_extra_state(self, state):
        super().set_extra_state(state)
        self.num_updates = state["num_updates"]
