"""BEST-RQ's targets: codes of the raw input."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fairseq_birq.frontends.logmel import LogMel, normalise_utterance, stack_frames
from fairseq_birq.objective.quantizer import RandomProjectionQuantizer
from fairseq_birq.settings import setting
from fairseq_birq.targets.base import TargetContext, TargetInputs, TargetSource


@dataclass
class RawInputConfig:
    """BEST-RQ's hard codes of the unmasked input."""

    quantizer_norm: str = setting(
        "utterance+frame",
        "normalisation of the quantizer's input: per Mel bin over the utterance, per stacked frame, both or none",
        ["utterance", "utterance+frame", "frame", "none"],
    )


class RawInputTargets(TargetSource):
    """Hard codes of stacked log-Mel frames (BEST-RQ, arXiv 2202.01855, section 3.1).

    An utterance has the same codes alone and in any batch: statistics are taken over its own frames only.

    Args:
        quantizer: over `num_stacked * num_mels` dimensions.
        log_mel: the log-Mel of the labels.
        num_stacked: log-Mel frames per encoder frame: 4 at 25 Hz, 2 at 50 Hz.
        quantizer_norm: "utterance" (the paper's), "frame" (layer normalisation per stacked frame),
            "utterance+frame" or "none".
        features_are_inputs: the frontend's features are this source's normalised log-Mel already.
    """

    name, Config = "raw_input", RawInputConfig
    is_fixed = True

    def __init__(self, quantizer: RandomProjectionQuantizer, log_mel: LogMel, num_stacked, quantizer_norm, features_are_inputs):
        super().__init__()
        self.quantizer, self.codebook_size = quantizer, quantizer.codebook_size
        self.log_mel = log_mel
        self.num_stacked = num_stacked
        self.quantizer_norm = quantizer_norm
        self.features_are_inputs = features_are_inputs

    @classmethod
    def build(cls, cfg: RawInputConfig, context: TargetContext) -> "RawInputTargets":
        norm, frontend = cfg.quantizer_norm, context.cfg.frontend
        log_mel = LogMel(frontend.sample_rate, frontend.num_mels, frontend.window_ms, frontend.hop_ms)
        num_stacked = round(context.frontend.step_samples / (frontend.hop_ms * frontend.sample_rate / 1000.0))
        same_norm = frontend.feature_norm == ("utterance" if norm.startswith("utterance") else "none")
        quantizer = context.quantizer(num_stacked * frontend.num_mels)
        return cls(quantizer, log_mel, num_stacked, norm, features_are_inputs=frontend.name == "logmel" and same_norm)

    @torch.no_grad()
    def forward(self, inputs: TargetInputs) -> Tensor:
        return self.quantizer.nearest(self.vectors(inputs))

    def vectors(self, inputs: TargetInputs) -> Tensor:
        """What the quantizer sees at the selected frames: (M, num_stacked * num_mels) float."""
        features = inputs.features if self.features_are_inputs else self._features(inputs)
        num_stacks = (~inputs.frame_padding_mask).sum(1)
        stacked = stack_frames(features, self.num_stacked, num_stacks, width=inputs.frame_padding_mask.shape[1])
        vectors = inputs.gather(stacked.x)
        if self.quantizer_norm.endswith("frame"):
            vectors = F.layer_norm(vectors.double(), vectors.shape[-1:]).float()
        return vectors

    def _features(self, inputs: TargetInputs):
        features = self.log_mel(inputs.waveform, inputs.padding_mask)
        return normalise_utterance(features) if self.quantizer_norm.startswith("utterance") else features

    def fingerprint(self) -> str:
        settings = f"{self.log_mel.settings()} stack={self.num_stacked} norm={self.quantizer_norm}"
        return self.quantizer.fingerprint(settings)
