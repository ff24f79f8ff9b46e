"""Checkpoints: what `load_encoder` gives back, and what is refused."""

import argparse

import pytest
import torch
from omegaconf import OmegaConf

from fairseq_birq import load_encoder
from fairseq_birq.checkpoint import load_checkpoint
from fairseq_birq.config import BirqConfig
from fairseq_birq.doors.birq import FairseqBirqModel as BirqModel
from fairseq_birq.errors import UserError
from tests.fixtures.audio import tone
from tests.fixtures.checkpoints import Touches


@pytest.fixture
def saved(tmp_path):
    encoder = {"num_layers": 3, "dim": 16, "ffn_dim": 32, "num_heads": 2, "conv_kernel": 5}
    settings = {"encoder": encoder, "quantizer": {"codebook_size": 20}}
    cfg = OmegaConf.merge(OmegaConf.structured(BirqConfig), settings)
    model = BirqModel.build_model(cfg).eval()
    container = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    path = tmp_path / "checkpoint_last.pt"
    torch.save({"cfg": {"model": {**container, "_name": "birq"}}, "model": model.state_dict(), "args": None}, path)
    return path, model


def test_the_encoder_is_that_of_the_model(saved):
    path, model = saved
    encoder = load_encoder(path)
    waveform = torch.from_numpy(tone(1.2))[None]
    ours, theirs = encoder(waveform), model.speech_encoder(waveform)
    assert len(ours.layers) == 3 and not encoder.training
    assert all(torch.equal(a, b) for a, b in zip(ours.layers, theirs.layers))
    assert not any("quantizer" in key or "heads" in key for key in encoder.state_dict())


def test_stopping_at_a_layer_gives_the_first_layers(saved):
    encoder = load_encoder(saved[0])
    waveform = torch.from_numpy(tone(1.0))[None]
    assert torch.equal(encoder(waveform, num_layers=2).last, encoder(waveform).layers[1])


def test_a_missing_or_short_file_is_named(saved, tmp_path):
    with pytest.raises(UserError, match="nowhere.pt does not exist"):
        load_checkpoint(tmp_path / "nowhere.pt")
    short = tmp_path / "short.pt"
    short.write_bytes(saved[0].read_bytes()[:2000])
    with pytest.raises(UserError, match="short.pt cannot be read"):
        load_checkpoint(short)


def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path):
    path, touched = tmp_path / "hostile.pt", tmp_path / "touched"
    torch.save({"cfg": Touches(touched), "model": {}}, path)
    touched.unlink(missing_ok=True)
    with pytest.raises(UserError, match="refused"):
        load_checkpoint(path)
    assert not touched.exists()


def test_a_checkpoint_of_another_model_is_named(tmp_path):
    path = tmp_path / "other.pt"
    torch.save({"cfg": {"model": {"_name": "wav2vec2"}}, "model": {}}, path)
    with pytest.raises(UserError, match="wav2vec2"):
        load_encoder(path)
    torch.save({"args": argparse.Namespace(arch="old")}, path)
    with pytest.raises(UserError):
        load_encoder(path)


def test_a_run_can_start_from_another_ones_encoder(saved):
    path, other = saved
    changes = {"encoder": {"num_layers": 3, "dim": 16, "ffn_dim": 32, "num_heads": 2, "conv_kernel": 5}}
    own = {"use": ["raw_input", "own_layer"], "own_layer": {"layers": [2], "shared_head": False}}

    def start(**settings):
        cfg = OmegaConf.merge(OmegaConf.structured(BirqConfig), changes, {"pretrained_path": str(path)}, settings)
        return BirqModel.build_model(cfg)

    model = start(quantizer={"codebook_size": 20}, targets=own)
    state, theirs = model.state_dict(), other.state_dict()
    assert all(torch.equal(state[key], theirs[key]) for key in theirs if key.startswith("speech_encoder."))
    assert torch.equal(model.heads["raw_input"].weight, other.heads["raw_input"].weight)
    assert not torch.equal(model.heads["own_layer"].weight, other.heads["raw_input"].weight)
    other_codes = start(quantizer={"codebook_size": 20, "seed": 5})
    assert not torch.equal(other_codes.heads["raw_input"].weight, other.heads["raw_input"].weight)
    with pytest.raises(SystemExit):
        start(encoder={"num_layers": 2})
