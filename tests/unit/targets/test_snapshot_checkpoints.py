"""Snapshots and checkpoints: runs that start from one, and what one leaves to fine-tuning."""

from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf

from fairseq_birq.checkpoint import load_encoder, load_speech_encoder_state
from fairseq_birq.config import BirqCtcConfig
from fairseq_birq.doors.birq_ctc import FairseqBirqCtcModel as BirqCtcModel
from fairseq_birq.errors import UserError
from fairseq_birq.model import BirqModel
from tests.fixtures.checkpoints import tiny_config, write_birq_checkpoint
from tests.fixtures.models import batch, build, latent_rq, same, weights
from tests.fixtures.targets import codes_by_the_equations, source_inputs


def pretrained_run(path, updates=(), encoder="conformer", **changes):
    settings = {"use": ["snapshot"], "snapshot": {"layers": [2], "target_updates": list(updates)}}
    parts = {"encoder": {"dropout": 0.1}}
    return build(encoder=encoder, targets=settings, parts=parts, target_encoder_path=str(path), **changes).train()


def write_ctc_checkpoint(path):
    """A fine-tuned checkpoint's settings and weights, the encoder that `write_birq_checkpoint` makes."""
    model = write_birq_checkpoint(path)
    settings = {**OmegaConf.to_container(tiny_config(BirqCtcConfig), enum_to_str=True), "_name": "birq_ctc"}
    torch.save({"cfg": {"model": settings}, "model": {**model.state_dict(), "output.weight": torch.ones(3)}}, str(path))
    return model


@pytest.mark.parametrize("write", [write_birq_checkpoint, write_ctc_checkpoint])
def test_a_checkpoint_starts_stage_1(tmp_path, write):
    other = write(tmp_path / "one.pt")
    model = pretrained_run(tmp_path / "one.pt", updates=[5])
    source = model.targets["snapshot"]
    expected = weights(other.speech_encoder)
    assert source.stage == 1 and same(weights(source.encoder), {key: expected[key] for key in weights(source.encoder)})
    assert not same(weights(model.speech_encoder), expected)
    both = pretrained_run(tmp_path / "one.pt", pretrained_path=str(tmp_path / "one.pt"))
    assert same(weights(both.speech_encoder), expected)
    model.set_num_updates(4)
    assert source.stage == 1 and same(weights(source.encoder), {key: expected[key] for key in weights(source.encoder)})
    model.set_num_updates(5)
    mine = weights(model.speech_encoder)
    assert source.stage == 2 and same(weights(source.encoder), {key: mine[key] for key in weights(source.encoder)})


@pytest.mark.parametrize("encoder", ["conformer", "transformer"])
def test_what_such_a_run_leaves_needs_the_first_checkpoint_no_more(tmp_path, encoder):
    """Not even where the snapshot's architecture is another one."""
    write_birq_checkpoint(tmp_path / "one.pt", dim=24, num_heads=4)
    targets = {"use": ["snapshot"], "snapshot": {"layers": [2]}}
    settings = {"targets": targets, "target_encoder_path": str(tmp_path / "one.pt")}
    model = write_birq_checkpoint(tmp_path / "two.pt", settings, name=encoder).eval()
    (tmp_path / "one.pt").unlink()
    again = BirqModel.from_checkpoint(tmp_path / "two.pt")
    assert same(weights(again), weights(model)) and again.staged.stage == 1
    inputs = batch([1.5])
    assert torch.equal(again(**inputs).terms["snapshot"].codes, model(**inputs).terms["snapshot"].codes)
    content = torch.load(tmp_path / "two.pt", map_location="cpu", weights_only=True)
    content["model"]["targets.snapshot._extra_state"]["encoder_settings"] = {"encoder": {"dim": "wide"}}
    torch.save(content, tmp_path / "damaged.pt")
    with pytest.raises(UserError, match="damaged.pt: the settings of its snapshot's encoder are damaged"):
        BirqModel.from_checkpoint(tmp_path / "damaged.pt")


def test_a_checkpoint_of_another_encoder_makes_the_targets_until_a_copy_is_wanted(tmp_path, caplog):
    other = write_birq_checkpoint(tmp_path / "one.pt", dim=24, num_layers=3, num_heads=4).speech_encoder.eval()
    model = pretrained_run(tmp_path / "one.pt", encoder="transformer")
    inputs = source_inputs(model)
    hidden = other(inputs.waveform, inputs.padding_mask)
    expected = codes_by_the_equations(model.targets["snapshot"], [None, *hidden.layers], inputs.frame_padding_mask)
    assert torch.equal(model.targets["snapshot"](inputs), expected)
    assert model(**batch([1.0])).loss.isfinite()
    with pytest.raises(SystemExit):
        pretrained_run(tmp_path / "one.pt", updates=[5], encoder="transformer")
    assert "leave `model.targets.snapshot.target_updates` empty" in caplog.text


@pytest.mark.parametrize(
    "snapshot, other, message",
    [
        ({"layers": [0, 1, 2]}, {}, "`model.quantizer.num_codebooks` (2) cannot be shared out evenly over the 3 layers"),
        ({"layers": [1, 3]}, {}, "name different layers from 1 to 2"),
        ({"layers": [1, 1]}, {}, "name different layers"),
        ({"layers": [-1, 1]}, {}, "or 0 for what enters the first"),
        ({"layers": []}, {}, "name different layers"),
        ({"target_updates": [6, 3]}, {}, "larger than the one before"),
        ({"target_updates": [0, 3]}, {}, "larger than the one before"),
        ({"target_updates": []}, {}, "the snapshot would never be taken"),
        ({"statistics_batches": 0}, {}, "statistics_batches"),
        ({}, {"target_encoder_path": "/nowhere/checkpoint.pt"}, "`model.target_encoder_path`: checkpoint /nowhere/checkpoint.pt"),
    ],
)
def test_settings_that_cannot_be_are_named(snapshot, other, message, caplog):
    with pytest.raises(SystemExit):
        latent_rq(other=other, **snapshot)
    assert message in caplog.text


def test_a_target_checkpoint_needs_the_snapshot_and_the_same_frames(tmp_path, caplog):
    path = str(tmp_path / "one.pt")
    write_birq_checkpoint(path)
    targets = {"use": ["snapshot"], "snapshot": {"layers": [1]}}
    for changes in ({}, {"parts": {"frontend": {"hop_ms": 20.0}}, "targets": targets}):
        with pytest.raises(SystemExit):
            build(target_encoder_path=path, **changes)
    assert "needs `snapshot` among" in caplog.text and "other frames than" in caplog.text


def test_none_of_the_snapshot_reaches_fine_tuning_and_exports(tmp_path):
    targets = {"use": ["snapshot", "moving_average"], "snapshot": {"layers": [1], "target_updates": [1]}}
    targets["moving_average"] = {"layers": [2]}
    settings = {"quantizer": {"num_codebooks": 2}, "targets": targets}
    model = write_birq_checkpoint(tmp_path / "latent.pt", settings, lambda model: model.set_num_updates(1))
    assert any(key.startswith("targets.snapshot.encoder.") for key in model.state_dict())
    _, state = load_speech_encoder_state(tmp_path / "latent.pt")
    assert state.keys() == model.speech_encoder.state_dict().keys()
    encoder = weights(model.speech_encoder)
    assert same(weights(load_encoder(tmp_path / "latent.pt")), encoder)
    fine_tuned = tiny_config(BirqCtcConfig, pretrained_path=str(tmp_path / "latent.pt"))
    letters = SimpleNamespace(target_dictionary=list("abcde"))
    state = weights(BirqCtcModel.build_model(fine_tuned, letters))
    assert same(state, {**{f"speech_encoder.{key}": value for key, value in encoder.items()}, **output_of(state)})


def output_of(state):
    return {key: state[key] for key in ("output.weight", "output.bias")}
