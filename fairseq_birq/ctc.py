"""Door: model `birq_ctc`. A (pre-trained) speech encoder and one linear layer over letters."""

import logging
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Optional

import torch
from fairseq.models import BaseFairseqModel, register_model
from omegaconf import OmegaConf
from torch import Tensor, nn

from fairseq_birq.builders import build_masker, build_speech_encoder
from fairseq_birq.checkpoint import load_speech_encoder_state
from fairseq_birq.config import BirqCtcConfig
from fairseq_birq.errors import RefusesOtherArchitectures, UserError, reports_user_errors
from fairseq_birq.objective.masking import utterance_keys
from fairseq_birq.structs import Features

logger = logging.getLogger(__name__)

_OWN_SETTINGS = {  # settings of fine-tuning itself; all others come from the pre-trained checkpoint
    "frontend": ("dropout",),
    "encoder": ("dropout", "attention_dropout", "activation_dropout", "layer_dropout", "checkpoint_activations"),
}


@dataclass
class CtcOutput:
    """Scores of every symbol of the dictionary at every CTC frame; T here is encoder frames x `upsample`."""

    logits: Tensor  # (B, T, V) float
    padding_mask: Tensor  # (B, T) bool


@register_model("birq_ctc", dataclass=BirqCtcConfig)
class BirqCtcModel(RefusesOtherArchitectures, BaseFairseqModel):
    """Fine-tuning model: holds a speech encoder and an output layer, and nothing of pre-training.

    Args:
        masker: a `SpanMasker` that augments features in training, or None.
        freeze_encoder_updates: during the first so many updates the encoder gets no gradient.
        upsample: CTC frames per encoder frame, each with its own part of the output layer.
    """

    def __init__(self, speech_encoder, vocabulary_size, masker=None, seed=1, freeze_encoder_updates=0, upsample=1, dropout=0.0):
        super().__init__()
        self.speech_encoder = speech_encoder
        self.masker = masker
        self.seed = seed
        self.freeze_encoder_updates = freeze_encoder_updates
        self.upsample = upsample
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(speech_encoder.dim, upsample * vocabulary_size)
        self.num_updates = 0

    @classmethod
    @reports_user_errors
    def build_model(cls, cfg: BirqCtcConfig, task):
        """Build from `cfg`; with `pretrained_path`, whose settings end up in the model's `cfg`, load those weights.

        Raises:
            UserError: the checkpoint is unreadable or of another model, or a setting is out of range.
        """
        if cfg.upsample < 1:
            raise UserError(f"`model.upsample` must be at least 1, but is {cfg.upsample}")
        cfg, state = resolve_pretrained(cfg)
        speech_encoder = build_speech_encoder(cfg.frontend, cfg.encoder)
        if state is not None:
            speech_encoder.load_state_dict(state)
            logger.info(f"encoder weights and settings come from {cfg.initialized_from}")
        model = cls(
            speech_encoder,
            vocabulary_size=len(task.target_dictionary),
            masker=build_masker(cfg.mask, speech_encoder.frontend) if cfg.apply_mask else None,
            seed=cfg.seed,
            freeze_encoder_updates=cfg.freeze_encoder_updates,
            upsample=cfg.upsample,
            dropout=cfg.dropout,
        )
        model.cfg = cfg
        return model

    def forward(self, waveform: Tensor, padding_mask: Optional[Tensor] = None, ids: Optional[Tensor] = None) -> CtcOutput:
        """waveform: (B, S) float in [-1, 1]; padding_mask: (B, S) bool; ids: (B,) int64, needed where masks are drawn.

        An empty batch (B = 0, all its audio was bad) gives empty logits that still hang on every parameter, so that
        data-parallel training goes on.
        """
        if waveform.shape[0] == 0:
            silence = waveform.new_zeros(1, self.speech_encoder.frontend.sample_rate)
            output = self(silence, torch.zeros_like(silence, dtype=torch.bool), silence.new_zeros(1, dtype=torch.long))
            return CtcOutput(output.logits[:0], output.padding_mask[:0])
        frozen = self.training and self.num_updates < self.freeze_encoder_updates
        augments = self.training and self.masker is not None
        with torch.no_grad() if frozen else nullcontext():
            encoded = self.speech_encoder(
                waveform, padding_mask, mask_features=(lambda x: self._augment(x, ids)) if augments else None
            )
        hidden = self.dropout(encoded.last)
        batch, steps, _ = hidden.shape
        vocabulary_size = self.output.out_features // self.upsample
        logits = self.output(hidden).view(batch, steps * self.upsample, vocabulary_size)
        return CtcOutput(logits, encoded.padding_mask.repeat_interleave(self.upsample, dim=1))

    def _augment(self, features: Features, ids: Tensor) -> Features:
        keys = utterance_keys(self.seed, self.num_updates, ids)
        last_of_step = self.masker.frames_per_step - 1
        mask = self.masker.sample(features.padding_mask[:, last_of_step :: self.masker.frames_per_step], keys)
        return Features(self.masker.fill(features.x, mask, keys), features.padding_mask)

    def get_normalized_probs(self, net_output: CtcOutput, log_probs: bool, sample=None) -> Tensor:
        """(B, T, V) float32 (log-)probabilities, whatever the precision of the logits."""
        normalise = nn.functional.log_softmax if log_probs else nn.functional.softmax
        return normalise(net_output.logits.float(), dim=-1)

    def set_num_updates(self, num_updates):
        super().set_num_updates(num_updates)
        self.num_updates = num_updates


def resolve_pretrained(cfg):
    """Settings and weights to start from.

    Returns:
        `cfg` and None where it has no `pretrained_path`; else a copy in which frontend and encoder are those of that
        checkpoint, except dropouts and activation checkpointing, and `pretrained_path` has become `initialized_from`,
        so that the fine-tuned checkpoint needs no other file; and the state dict of the speech encoder.

    Raises:
        UserError: the checkpoint is unreadable or of another model.
    """
    if not cfg.pretrained_path:
        return cfg, None
    pretrained, state = load_speech_encoder_state(cfg.pretrained_path)
    resolved = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True, enum_to_str=True))
    for part, own in _OWN_SETTINGS.items():
        settings = OmegaConf.to_container(pretrained[part], resolve=True, enum_to_str=True)
        resolved[part] = {**settings, **{key: cfg[part][key] for key in own}}
    resolved.initialized_from, resolved.pretrained_path = str(cfg.pretrained_path), None
    return resolved, state
