"""Door: model `birq`. One encoder on masked input, any mix of target sources on the unmasked input."""

from dataclasses import dataclass
from typing import Dict, Optional

import torch
from fairseq.models import BaseFairseqModel, register_model
from torch import Tensor, nn

from fairseq_birq.builders import build_masker, build_speech_encoder, build_targets
from fairseq_birq.config import BirqConfig
from fairseq_birq.errors import UserError, reports_user_errors
from fairseq_birq.heads import CodebookHeads
from fairseq_birq.losses import LossTerm, masked_code_loss
from fairseq_birq.masking import utterance_keys
from fairseq_birq.structs import Features
from fairseq_birq.targets.base import TargetInputs


@dataclass
class PretrainingOutput:
    """What one forward gives to the criterion; sums over the M masked frames."""

    totals: Dict[str, Tensor]  # differentiable loss per target source, nats, mean over codebooks
    terms: Dict[str, LossTerm]
    num_masked: int  # M
    num_frames: int  # encoder frames that are not padding
    num_padded: int  # encoder frames that are
    audio_seconds: float  # without padding


@register_model("birq", dataclass=BirqConfig)
class BirqModel(BaseFairseqModel):
    """Pre-training model. `speech_encoder` is what remains of it for fine-tuning."""

    def __init__(self, speech_encoder, masker, targets, heads, seed, block_bytes):
        super().__init__()
        self.speech_encoder = speech_encoder
        self.masker = masker
        self.targets = targets
        self.heads = heads
        self.seed = seed
        self.block_bytes = block_bytes
        self.num_updates = 0

    @classmethod
    @reports_user_errors
    def build_model(cls, cfg: BirqConfig, task=None):
        speech_encoder = build_speech_encoder(cfg.frontend, cfg.encoder)
        frontend = speech_encoder.frontend
        return cls(
            speech_encoder=speech_encoder,
            masker=build_masker(cfg.mask, frontend),
            targets=build_targets(cfg, frontend),
            heads=nn.ModuleDict(
                {
                    name: CodebookHeads(speech_encoder.dim, cfg.quantizer.codebook_size, cfg.quantizer.num_codebooks)
                    for name in cfg.targets.use
                }
            ),
            seed=cfg.seed,
            block_bytes=int(cfg.block_mb * (1 << 20)),
        )

    def forward(self, waveform: Tensor, padding_mask: Tensor, ids: Tensor) -> PretrainingOutput:
        """waveform: (B, S) float in [-1, 1]; padding_mask: (B, S) bool; ids: (B,) int64, the utterances' numbers.

        An empty batch (B = 0, all its audio was bad) gives zero losses that still hang on the parameters, so that
        data-parallel training goes on.
        """
        if waveform.shape[0] == 0:
            waveform = waveform.new_zeros(1, self.speech_encoder.frontend.sample_rate)
            padding_mask, ids = torch.ones_like(waveform, dtype=torch.bool), ids.new_zeros(1)
        keys = utterance_keys(self.seed, self.num_updates if self.training else 0, ids)
        features = self.speech_encoder.frontend.features(waveform, padding_mask)
        frame_padding_mask = self._frame_padding_mask(padding_mask)
        mask = self.masker.sample(frame_padding_mask, keys)
        predicted = self.encode_masked(features, frame_padding_mask, mask, keys)[mask]
        inputs = TargetInputs(waveform, padding_mask, features, frame_padding_mask, mask)
        totals, terms = {}, {}
        for name, source in self.targets.items():
            head = self.heads[name]
            codes = source(inputs)
            totals[name], terms[name] = masked_code_loss(predicted, head.weight, head.bias, codes, self.block_bytes)
        num_frames = int((~frame_padding_mask).sum())
        return PretrainingOutput(
            totals,
            terms,
            num_masked=predicted.shape[0],
            num_frames=num_frames,
            num_padded=frame_padding_mask.numel() - num_frames,
            audio_seconds=int((~padding_mask).sum()) / self.speech_encoder.frontend.sample_rate,
        )

    def encode_masked(self, features: Features, frame_padding_mask: Tensor, mask: Tensor, keys: Tensor) -> Tensor:
        """The last layer on masked features: (B, T, d)."""
        masked = Features(self.masker.fill(features.x, mask, keys), features.padding_mask)
        hidden, _ = self.speech_encoder.frontend.subsample(masked)
        return self.speech_encoder.encoder(hidden, frame_padding_mask).last

    def _frame_padding_mask(self, padding_mask: Tensor) -> Tensor:
        lengths = self.speech_encoder.output_length((~padding_mask).sum(1))
        steps = int(self.speech_encoder.output_length(padding_mask.shape[1]))
        return torch.arange(steps, device=lengths.device)[None, :] >= lengths[:, None]

    def set_num_updates(self, num_updates):
        super().set_num_updates(num_updates)
        self.num_updates = num_updates

    @reports_user_errors
    def load_state_dict(self, state_dict, strict=True, model_cfg=None, args=None):
        try:
            return super().load_state_dict(state_dict, strict, model_cfg, args)
        except RuntimeError as error:
            raise UserError(
                f"the checkpoint's weights do not fit this configuration. Use the `model` settings of the run that "
                f"wrote it, or start in a new directory. The differences: {error}"
            ) from None

    def get_targets(self, sample, net_output) -> Optional[Tensor]:
        return None
