"""Builders: configuration in, modules with plain keyword arguments out. Target sources are built in `targets/`.

Besides the builders, only the modules' own `settings(cfg)` and `build(cfg, context)` read a config.
"""

from typing import Optional

import torch
from torch import nn

from fairseq_birq.devices import block_bytes
from fairseq_birq.encoders import ENCODERS
from fairseq_birq.encoders.base import Encoder
from fairseq_birq.encoders.speech_encoder import SpeechEncoder
from fairseq_birq.errors import UserError
from fairseq_birq.frontends import FRONTENDS
from fairseq_birq.modules.chunks import checked_left, chunk_frames
from fairseq_birq.objective.chunk_draws import ChunkSampler
from fairseq_birq.objective.masking import SpanMasker
from fairseq_birq.objective.quantizer import RandomProjectionQuantizer
from fairseq_birq.settings import refuse_removed


def build_speech_encoder(frontend_cfg, encoder_cfg) -> SpeechEncoder:
    """Raises UserError where sizes do not fit together."""
    if encoder_cfg.dim % encoder_cfg.num_heads:
        raise UserError(
            f"`model.encoder.num_heads` ({encoder_cfg.num_heads}) must divide `model.encoder.dim` ({encoder_cfg.dim})"
        )
    encoder = ENCODERS[encoder_cfg.name]
    return SpeechEncoder(build_frontend(frontend_cfg, encoder_cfg.dim), encoder(**encoder.settings(encoder_cfg)))


def compile_encoders(model: nn.Module) -> None:
    """All encoders in a model run compiled layers, those of frozen copies too. Raises UserError, see `Encoder.compile_layers`."""
    for module in model.modules():
        if isinstance(module, Encoder):
            module.compile_layers()


def build_frontend(cfg, dim: int) -> nn.Module:
    """A frontend whose frames have `dim` dimensions when they enter the encoder."""
    frontend = FRONTENDS[cfg.name]
    return frontend(dim=dim, **frontend.settings(cfg))


def build_masker(cfg, frontend) -> SpanMasker:
    """A masker for features of `frontend`. Raises UserError for a probability outside [0, 1)."""
    if not 0 <= cfg.start_prob < 1:
        raise UserError(f"`model.mask.start_prob` must be in [0, 1), but is {cfg.start_prob}")
    refuse_removed("model.mask.fill", cfg.fill, "noise")
    return SpanMasker(
        step_ms=frontend.step_samples * 1000.0 / frontend.sample_rate,
        frames_per_step=frontend.frames_per_step,
        span_ms=cfg.span_ms,
        start_prob=cfg.start_prob,
        noise_std=cfg.noise_std,
    )


def build_chunk_sampler(cfg, speech_encoder: SpeechEncoder) -> Optional[ChunkSampler]:
    """What draws chunks in training, or None where that is off.

    cfg: a `ChunksConfig`

    Raises:
        UserError: a setting is out of range, or this encoder cannot compute in chunks or would not stream.
    """
    for name in ("prob", "left_prob"):
        if not 0 <= getattr(cfg, name) <= 1:
            raise UserError(f"`model.chunks.{name}` must be from 0 to 1, but is {getattr(cfg, name)}")
    if cfg.prob == 0:
        return None
    speech_encoder.check_streams()
    frames = [
        chunk_frames(getattr(cfg, name), speech_encoder.frame_ms, f"`model.chunks.{name}`") for name in ("min_ms", "max_ms")
    ]
    for name, low, high in (("ms", cfg.min_ms, cfg.max_ms), ("left", cfg.min_left, cfg.max_left)):
        if low > high:
            raise UserError(f"`model.chunks.min_{name}` ({low:g}) must not be larger than `model.chunks.max_{name}` ({high:g})")
    checked_left(cfg.min_left, "`model.chunks.min_left`")
    return ChunkSampler(cfg.prob, *frames, cfg.left_prob, cfg.min_left, cfg.max_left)


def build_quantizer(
    cfg, input_dim: int, block_mb: float, seed=None, codebook=None, num_codebooks: Optional[int] = None
) -> RandomProjectionQuantizer:
    """A quantizer of `input_dim` dimensions; `seed` and `num_codebooks` are the configuration's unless they are given."""
    return RandomProjectionQuantizer(
        input_dim=input_dim,
        codebook_size=cfg.codebook_size,
        codebook_dim=cfg.codebook_dim,
        num_codebooks=num_codebooks or cfg.num_codebooks,
        seed=cfg.seed if seed is None else seed,
        block_bytes=block_bytes(block_mb, torch.device("cpu")) // 2,
        codebook=codebook,
    )
