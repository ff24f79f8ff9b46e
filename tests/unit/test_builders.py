"""Builders: what a configuration becomes, and the sentence for each one that cannot be."""

import pytest
import torch

from fairseq_birq.builders import build_frontend, build_masker, build_quantizer, build_speech_encoder
from fairseq_birq.config import BirqConfig
from fairseq_birq.errors import UserError
from fairseq_birq.settings import from_dict

SMALL = {
    "frontend": {"name": "logmel", "num_mels": 40},
    "encoder": {"num_layers": 3, "dim": 16, "ffn_dim": 32, "num_heads": 2, "conv_kernel": 5},
    "quantizer": {"codebook_size": 12, "codebook_dim": 4, "num_codebooks": 3, "seed": 7},
}


@pytest.fixture
def cfg():
    return from_dict(BirqConfig, SMALL)


def test_a_speech_encoder_has_the_layers_and_the_width_that_are_asked_for(cfg):
    encoded = build_speech_encoder(cfg.frontend, cfg.encoder).eval()(torch.randn(2, 16000))
    assert [layer.shape for layer in encoded.layers] == [(2, 24, 16)] * 3


def test_heads_that_do_not_divide_the_width_are_named(cfg):
    cfg.encoder.num_heads = 3
    with pytest.raises(UserError, match=r"`model.encoder.num_heads` \(3\) must divide `model.encoder.dim` \(16\)"):
        build_speech_encoder(cfg.frontend, cfg.encoder)


@pytest.mark.parametrize("name, step_ms, frames_per_step", [("logmel", 40, 4), ("waveform", 20, 1)])
def test_a_masker_knows_the_frames_of_its_frontend(cfg, name, step_ms, frames_per_step):
    cfg.frontend.name, cfg.frontend.waveform_dim = name, 24
    frontend = build_frontend(cfg.frontend, dim=16)
    masker = build_masker(cfg.mask, frontend)
    assert frontend.step_samples * 1000 / frontend.sample_rate == step_ms and masker.frames_per_step == frames_per_step


@pytest.mark.parametrize("start_prob", [-0.1, 1.0])
def test_a_probability_of_a_span_that_cannot_be_is_named(cfg, start_prob):
    cfg.mask.start_prob = start_prob
    with pytest.raises(UserError, match=rf"`model.mask.start_prob` must be in \[0, 1\), but is {start_prob}"):
        build_masker(cfg.mask, build_frontend(cfg.frontend, 16))


def test_a_filler_that_is_no_more_is_named_with_the_last_version_that_has_it(cfg):
    cfg.mask.fill = "learned"
    with pytest.raises(UserError, match="`model.mask.fill: learned` is no more: fairseq_birq 0.1.0 is the last version"):
        build_masker(cfg.mask, build_frontend(cfg.frontend, 16))


def test_a_quantizer_has_the_configured_sizes_and_seed_unless_others_are_given(cfg):
    configured = build_quantizer(cfg.quantizer, input_dim=20, block_mb=16.0)
    assert configured.projection.shape == (3, 20, 4) and configured.codebook.shape == (3, 12, 4)
    assert configured.block_bytes == 8 << 20
    again, other = (build_quantizer(cfg.quantizer, 20, 16.0, seed=seed) for seed in (7, 0))
    assert torch.equal(configured.projection, again.projection) and not torch.equal(configured.projection, other.projection)
    one = build_quantizer(cfg.quantizer, 20, 16.0, num_codebooks=1)
    assert one.codebook.shape == (1, 12, 4)
    shared = build_quantizer(cfg.quantizer, 20, 16.0, seed=9, codebook=configured.codebook)
    assert torch.equal(shared.codebook, configured.codebook) and not torch.equal(shared.projection, configured.projection)
