"""The fine-tuning model: a (pre-trained) speech encoder and one linear layer over letters."""

import logging
from contextlib import nullcontext
from dataclasses import replace
from typing import Optional

import torch
from torch import Tensor, nn

from fairseq_birq.builders import build_chunk_sampler, build_masker, build_speech_encoder, compile_encoders
from fairseq_birq.checkpoint import load_speech_encoder_state
from fairseq_birq.config import BirqCtcConfig
from fairseq_birq.disturbance import build_disturber
from fairseq_birq.disturbance.base import Batch
from fairseq_birq.errors import UserError
from fairseq_birq.modules.ctc_frames import ctc_frames
from fairseq_birq.objective.masking import utterance_keys
from fairseq_birq.settings import from_dict
from fairseq_birq.structs import CtcOutput, Features

logger = logging.getLogger(__name__)

_OWN_SETTINGS = {  # settings of fine-tuning itself; all others come from the pre-trained checkpoint
    "frontend": ("dropout",),
    "encoder": ("dropout", "attention_dropout", "activation_dropout", "layer_dropout", "checkpoint_activations"),
}


class BirqCtcModel(nn.Module):
    """Fine-tuning model: holds a speech encoder and an output layer, and nothing of pre-training.

    Args:
        masker: a `SpanMasker` that augments features in training, or None.
        disturber: a `Disturber` of waveforms in training, or None.
        chunk_sampler: draws chunks in training, or None.
        freeze_encoder_updates: during the first so many updates the encoder gets no gradient.
        upsample: CTC frames per encoder frame, each with its own part of the output layer.
    """

    def __init__(
        self,
        speech_encoder,
        vocabulary_size,
        masker=None,
        seed=1,
        freeze_encoder_updates=0,
        upsample=1,
        dropout=0.0,
        disturber=None,
        chunk_sampler=None,
    ):
        super().__init__()
        self.speech_encoder = speech_encoder
        self.masker = masker
        self.disturber = disturber
        self.chunk_sampler = chunk_sampler
        self.seed = seed
        self.freeze_encoder_updates = freeze_encoder_updates
        self.upsample = upsample
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(speech_encoder.dim, upsample * vocabulary_size)
        self.num_updates = 0

    @classmethod
    def build_model(cls, cfg, vocabulary_size: int) -> "BirqCtcModel":
        """Build from `cfg`; with `pretrained_path`, whose settings end up in the model's `cfg`, load those weights.

        cfg: a `BirqCtcConfig`, or any mapping with its keys

        Raises:
            UserError: the checkpoint is unreadable or of another model, or a setting is out of range.
        """
        cfg = from_dict(BirqCtcConfig, cfg)
        if cfg.upsample < 1:
            raise UserError(f"`model.upsample` must be at least 1, but is {cfg.upsample}")
        cfg, state = resolve_pretrained(cfg)
        speech_encoder = build_speech_encoder(cfg.frontend, cfg.encoder)
        if state is not None:
            speech_encoder.load_state_dict(state)
            logger.info(f"encoder weights and settings come from {cfg.initialized_from}")
        model = cls(
            speech_encoder,
            vocabulary_size=vocabulary_size,
            masker=build_masker(cfg.mask, speech_encoder.frontend) if cfg.apply_mask else None,
            seed=cfg.seed,
            freeze_encoder_updates=cfg.freeze_encoder_updates,
            upsample=cfg.upsample,
            dropout=cfg.dropout,
            disturber=build_disturber(cfg.disturbance, speech_encoder.frontend),
            chunk_sampler=build_chunk_sampler(cfg.chunks, speech_encoder),
        )
        model.cfg = cfg
        if cfg.compile_layers:
            compile_encoders(model)
        return model

    def forward(self, waveform: Tensor, padding_mask: Optional[Tensor] = None, ids: Optional[Tensor] = None) -> CtcOutput:
        """waveform: (B, S) float in [-1, 1]; padding_mask: (B, S) bool; ids: (B,) int64, needed where masks or disturbances
        are drawn.

        An empty batch (B = 0, all its audio was bad) gives empty logits that still hang on every parameter, so that
        data-parallel training goes on.
        """
        if waveform.shape[0] == 0:
            silence = waveform.new_zeros(1, self.speech_encoder.frontend.sample_rate)
            output = self(silence, torch.zeros_like(silence, dtype=torch.bool), silence.new_zeros(1, dtype=torch.long))
            return CtcOutput(output.logits[:0], output.padding_mask[:0], output.realised)
        frozen = self.training and self.num_updates < self.freeze_encoder_updates
        realised = None
        if self.training and self.disturber is not None:
            waveform, realised = self._disturb(waveform, padding_mask, ids)
        hides = self.disturber is not None and self.disturber.frequency_masks is not None
        augments = self.training and (self.masker is not None or hides)
        chunked = self.training and self.chunk_sampler is not None
        chunks = self.chunk_sampler.sample(self.seed, self.num_updates) if chunked else None
        with torch.no_grad() if frozen else nullcontext():
            encoded = self.speech_encoder(
                waveform,
                padding_mask,
                mask_features=(lambda x: self._augment(x, ids)) if augments else None,
                chunks=chunks,
            )
        logits = ctc_frames(self.output(self.dropout(encoded.last)), self.upsample)
        return CtcOutput(logits, encoded.padding_mask.repeat_interleave(self.upsample, dim=1), realised)

    def _disturb(self, waveform: Tensor, padding_mask: Optional[Tensor], ids: Tensor):
        padding_mask = torch.zeros_like(waveform, dtype=torch.bool) if padding_mask is None else padding_mask
        ids, num_samples = ids.cpu(), (~padding_mask).sum(1).tolist()
        keys = utterance_keys(self.seed, self.num_updates, ids)
        return self.disturber.waveform(Batch(waveform, padding_mask, ids, keys, num_samples))

    def _augment(self, features: Features, ids: Tensor) -> Features:
        keys = utterance_keys(self.seed, self.num_updates, ids)
        if self.disturber is not None:
            features = self.disturber.hide_bins(features, keys.cpu())
        if self.masker is None:
            return features
        last_of_step = self.masker.frames_per_step - 1
        mask = self.masker.sample(features.padding_mask[:, last_of_step :: self.masker.frames_per_step], keys)
        return Features(self.masker.fill(features.x, mask, keys), features.padding_mask)

    def set_num_updates(self, num_updates):
        self.num_updates = num_updates


def resolve_pretrained(cfg: BirqCtcConfig):
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
    cfg = with_encoder_of(pretrained, cfg)
    return replace(cfg, initialized_from=str(cfg.pretrained_path), pretrained_path=None), state


def with_encoder_of(pretrained, cfg: BirqCtcConfig) -> BirqCtcConfig:
    """A copy of `cfg` in which frontend and encoder are those of `pretrained`, except dropouts and activation checkpointing."""
    parts = {
        part: replace(getattr(pretrained, part), **{key: getattr(getattr(cfg, part), key) for key in own})
        for part, own in _OWN_SETTINGS.items()
    }
    return replace(cfg, **parts)
