"""The contract that every target source keeps, tested for each name in the registry."""

import copy
from dataclasses import fields

import pytest
import torch
from omegaconf import OmegaConf

from fairseq_birq.builders import build_speech_encoder
from fairseq_birq.config import BirqConfig
from fairseq_birq.errors import UserError
from fairseq_birq.frontends import FRONTENDS
from fairseq_birq.objective.masking import utterance_keys
from fairseq_birq.settings import from_dict, merged
from fairseq_birq.targets import TARGETS, build_targets
from fairseq_birq.targets.base import TargetInputs
from tests.fixtures.audio import tone

SMALLER = {"waveform": {"waveform_dim": 16}}  # than its defaults
SEED_9 = {name: {"seed": 9} for name, source in sorted(TARGETS.items()) if "seed" in {one.name for one in fields(source.Config)}}


def build(name, frontend="logmel", **changes):
    cfg = OmegaConf.merge(
        OmegaConf.structured(BirqConfig),
        {
            "frontend": {"name": frontend, **SMALLER.get(frontend, {})},
            "encoder": {"dim": 16, "num_heads": 2, "num_layers": 2},
            "quantizer": {"codebook_size": 200, "codebook_dim": 8, "num_codebooks": 2},
            "targets": {"use": [name], "own_layer": {"layers": [1]}},
        },
        {"targets": {"snapshot": {"layers": [0, 2], "target_updates": [1]}, "moving_average": {"layers": [0, 2]}}},
        {"targets": {"label_file": {"path": "labels"}}},
        changes,
    )
    cfg = from_dict(BirqConfig, cfg)
    torch.manual_seed(0)
    module = FRONTENDS[frontend](dim=16, **SMALLER.get(frontend, {})).eval()
    source = build_targets(cfg, module)[name].eval()
    source.update(build_speech_encoder(cfg.frontend, cfg.encoder), 1)
    if name == "label_file":
        source.labels_fingerprint = f"of labels that were opened, seed {cfg.quantizer.seed}"
    return source, module


def codes_of(source, inputs):
    """(M, columns) int64: a source's codes, the nearest ones where it gives distributions."""
    targets = source(inputs)
    if torch.is_tensor(targets):
        return targets
    columns = [targets.column(index) for index in range(targets.num_columns)]
    return torch.stack([(unit @ codebook.t()).argmax(-1) for unit, codebook in columns], dim=1)


def inputs_of(frontend, seconds, extra_padding=0.0, gain=1.0):
    waves = [gain * torch.from_numpy(tone(duration, seed=index)) for index, duration in enumerate(seconds)]
    samples = max(wave.numel() for wave in waves) + int(16000 * extra_padding)
    waveform = torch.stack([torch.nn.functional.pad(wave, (0, samples - wave.numel())) for wave in waves])
    padding_mask = torch.arange(samples) >= torch.tensor([wave.numel() for wave in waves])[:, None]
    return target_inputs(frontend, waveform, padding_mask, torch.arange(len(waves)))


def target_inputs(frontend, waveform, padding_mask, ids):
    """Inputs in which the frontend's output stands for the hidden states of layer 1, and which bring codes by utterance."""
    features = frontend.features(waveform, padding_mask)
    hidden, _ = frontend.subsample(features)
    lengths = frontend.output_length((~padding_mask).sum(1))
    frame_padding_mask = torch.arange(hidden.shape[1]) >= lengths[:, None]
    keys = utterance_keys(1, 1, ids)
    random = [torch.Generator().manual_seed(int(index)) for index in ids]
    codes = torch.stack([torch.randint(200, (300, 2), generator=generator)[: hidden.shape[1]] for generator in random])
    selected = ~frame_padding_mask
    return TargetInputs(waveform, padding_mask, features, frame_padding_mask, selected, keys, {1: hidden}, codes)


@pytest.fixture(params=sorted(TARGETS))
def name(request):
    return request.param


@pytest.mark.parametrize("frontend", sorted(FRONTENDS))
def test_one_code_per_selected_frame_and_codebook(name, frontend):
    source, module = build(name, frontend)
    inputs = inputs_of(module, [1.3, 0.7])
    codes = codes_of(source, inputs)
    assert codes.dtype == torch.int64 and not codes.requires_grad
    assert codes.shape == (int(inputs.selected.sum()), 2)
    assert 0 <= codes.min() and codes.max() < 200


def test_a_gradient_reaches_the_hidden_states_where_it_is_promised_and_nowhere_else(name):
    source, module = build(name)
    inputs = inputs_of(module, [1.3, 0.7])
    for layer, hidden in inputs.hidden.items():
        inputs.hidden[layer] = hidden.detach().requires_grad_()
    targets = source.train()(inputs)
    parts = [targets] if torch.is_tensor(targets) else targets.units
    flows = [part.requires_grad for part in parts]
    assert all(flows) if source.needs_gradient else not any(flows)
    if source.needs_gradient:
        sum(part.square().sum() + part.sum() for part in parts).backward()
        assert all(inputs.hidden[layer].grad.abs().max() > 0 for layer in source.hidden_layers)


@pytest.mark.parametrize("frontend", sorted(FRONTENDS))
def test_codes_of_an_utterance_do_not_depend_on_its_batch(name, frontend):
    source, module = build(name, frontend)
    seconds = [1.3, 0.7, 2.1]
    full = inputs_of(module, seconds, extra_padding=0.9)
    source.train()(full)  # statistics of hidden states come from training
    source.eval()
    together, alone = codes_of(source, full), []
    for row, duration in enumerate(seconds):
        wave = full.waveform[row : row + 1, : int(16000 * duration)]
        nothing_padded = torch.zeros_like(wave, dtype=torch.bool)
        alone.append(codes_of(source, target_inputs(module, wave, nothing_padded, torch.tensor([row]))))
    assert torch.equal(together, torch.cat(alone))


def test_selecting_frames_selects_their_codes(name):
    source, module = build(name)
    inputs = inputs_of(module, [1.3, 0.7])
    every = codes_of(source, inputs)
    chosen = torch.rand(inputs.selected.shape) < 0.4
    flat = chosen[inputs.selected]
    inputs.selected = inputs.selected & chosen
    assert torch.equal(codes_of(source, inputs), every[flat])


def test_masked_views_get_the_codes_of_their_utterances(name):
    source, module = build(name)
    inputs = inputs_of(module, [1.3, 0.7])
    once = codes_of(source, inputs)
    inputs.selected = inputs.selected.repeat(2, 1)
    inputs.keys = torch.cat([inputs.keys, utterance_keys(1, 1, torch.arange(2), view=1)])
    assert torch.equal(codes_of(source, inputs), once.repeat(2, 1))


def test_state_dict_round_trip_and_fingerprint(name):
    source, module = build(name)
    inputs = inputs_of(module, [1.3, 0.7])
    codes = codes_of(source, inputs)
    twin, _ = build(name)
    twin.load_state_dict(source.state_dict())
    assert torch.equal(codes_of(twin, inputs), codes)
    other, _ = build(name, quantizer={"seed": 9}, targets=SEED_9)
    with pytest.raises(UserError, match="fingerprint"):
        other.load_state_dict(source.state_dict())


def test_update_follows_the_encoder_once_per_count_and_trains_nothing(name):
    source, _ = build(name)
    cfg = merged(BirqConfig(), {"encoder": {"dim": 16, "num_heads": 2, "num_layers": 2}})
    other = build_speech_encoder(cfg.frontend, cfg.encoder)
    before = {key: copy.deepcopy(value) for key, value in source.state_dict().items()}
    assert source.update(other, 1) is False
    for key, value in source.state_dict().items():
        assert torch.equal(value, before[key]) if torch.is_tensor(value) else value == before[key]
    assert not any(parameter.requires_grad for parameter in source.parameters())


@pytest.mark.parametrize("norm, changes", [("utterance", False), ("utterance+frame", False), ("frame", False), ("none", True)])
def test_normalisation_takes_the_gain_out(norm, changes):
    """A louder recording adds a constant to log-Mel: every normalisation removes it, none does not."""
    source, module = build("raw_input", targets={"raw_input": {"quantizer_norm": norm}})
    soft, loud = (codes_of(source, inputs_of(module, [2.0], gain=gain)) for gain in (0.02, 1.0))
    different = (soft != loud).float().mean().item()
    assert different > 0.1 if changes else different < 0.02


def test_vectors_of_raw_input_are_four_stacked_frames_of_unit_layer_norm():
    source, module = build("raw_input")
    inputs = inputs_of(module, [1.0])
    vectors = source.vectors(inputs)
    stacked = inputs.features.x[0, : vectors.shape[0] * 4].reshape(-1, 320)
    expected = torch.nn.functional.layer_norm(stacked, (320,))
    assert torch.allclose(vectors, expected, atol=1e-5)


def test_silence_gives_codes(name):
    source, module = build(name)
    waveform = torch.zeros(1, 16000)
    assert codes_of(source, target_inputs(module, waveform, waveform.bool(), torch.tensor([0]))).shape == (24, 2)
