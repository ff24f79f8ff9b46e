"""Runs of fairseq2, read without it. That fairseq2 itself writes such files is tested in its environment, tests/fairseq2."""

import json

import pytest
import torch

from fairseq_birq import load_encoder
from fairseq_birq.checkpoint import checkpoint_files, load, load_checkpoint
from fairseq_birq.errors import UserError
from fairseq_birq.fairseq2_files import read_yaml, tensors_only, with_extra_state
from fairseq_birq.model import BirqModel
from fairseq_birq.tools.average import average
from tests.fixtures.audio import tone
from tests.fixtures.checkpoints import CTC_SYMBOLS, Touches, write_birq_checkpoint, write_ctc_checkpoint


def as_run(checkpoint, folder, steps=(2, 10), parameters=(), shards=1):
    """The same model as a run of fairseq2 that saved at `steps`; all but the last with zeros for weights.

    parameters: names of what FSDP cuts into `shards`
    """
    content = load_checkpoint(checkpoint)
    settings = dict(content["cfg"]["model"])
    metadata = {"name": "checkpoint", "model_family": settings.pop("_name"), "model_config": settings}
    if content.get("task_state"):
        settings["symbols"] = content["task_state"]["symbols"]
    for step in steps:
        files = folder / f"ws_1.abc/checkpoints/step_{step}/model/pp_00/tp_00"
        files.mkdir(parents=True)
        state = tensors_only(content["model"])
        if step != max(steps):
            state = {key: value * 0 if value.is_floating_point() else value for key, value in state.items()}
        for shard in range(shards):
            parts = {
                key: value.chunk(shards)[shard : shard + 1] if key in parameters else [value] for key, value in state.items()
            }
            torch.save({key: part[0].clone() for key, part in parts.items() if part}, files / f"sdp_{shard:02d}.pt")
    (folder / "ws_1.abc/checkpoints/model.yaml").write_text(json.dumps(metadata))
    return folder / "ws_1.abc"


@pytest.fixture
def run(tmp_path):
    targets = {"use": ["raw_input", "snapshot"], "snapshot": {"layers": [1], "target_updates": [5]}}
    model = write_birq_checkpoint(tmp_path / "checkpoint_last.pt", {"targets": targets})
    return as_run(tmp_path / "checkpoint_last.pt", tmp_path / "run"), model


@pytest.mark.parametrize("inside", ["..", ".", "checkpoints", "checkpoints/step_10", "checkpoints/step_10/model"])
def test_a_run_is_read_as_a_checkpoint_whatever_part_of_it_is_named(run, inside):
    folder, model = run
    waveform = torch.from_numpy(tone(1.0))[None]
    assert torch.equal(load_encoder(folder / inside)(waveform).last, model.eval().speech_encoder(waveform).last)
    ours, stored = BirqModel.from_checkpoint(folder / inside).state_dict(), model.state_dict()
    assert ours.keys() == stored.keys() and ours["targets.snapshot._extra_state"] == stored["targets.snapshot._extra_state"]
    assert [file.parents[3].name for file in checkpoint_files(folder / inside)] == ["step_10"]


def test_an_earlier_step_is_read_by_its_name(run):
    name = "speech_encoder.encoder.layers.1.final_norm.weight"
    assert load(run[0] / "checkpoints/step_2")[1][name].abs().max() == 0


def test_steps_of_a_run_are_averaged(run, tmp_path):
    name, steps = "speech_encoder.encoder.layers.1.final_norm.weight", [run[0] / f"checkpoints/step_{step}" for step in (2, 10)]
    average(steps, tmp_path / "averaged.pt")
    assert torch.equal(load(tmp_path / "averaged.pt")[1][name], run[1].state_dict()[name] / 2)


def test_letters_come_with_a_fine_tuned_model(tmp_path):
    write_ctc_checkpoint(tmp_path / "checkpoint_last.pt")
    content = load_checkpoint(as_run(tmp_path / "checkpoint_last.pt", tmp_path / "run"))
    assert content["task_state"]["symbols"] == CTC_SYMBOLS and content["cfg"]["model"]["_name"] == "birq_ctc"
    assert content["optimizer_history"][-1]["num_updates"] == 10


def test_what_several_processes_hold_in_parts_is_joined(tmp_path):
    model = write_birq_checkpoint(tmp_path / "checkpoint_last.pt")
    names = [name for name, _ in model.named_parameters()]
    folder = as_run(tmp_path / "checkpoint_last.pt", tmp_path / "run", parameters=names, shards=3)
    state, stored = load(folder)[1], model.state_dict()
    assert all(torch.equal(state[key], value) for key, value in stored.items() if torch.is_tensor(value))
    next(folder.glob("*/step_10/model/*/*/sdp_02.pt")).unlink()
    with pytest.raises(UserError, match="is one missing"):
        load(folder)


def test_wrong_folders_get_sentences(run, tmp_path):
    folder, _ = run
    step = folder / "checkpoints/step_10"
    torch.save({"a": Touches(tmp_path / "touched")}, step / "model/pp_00/tp_00/sdp_00.pt")
    (tmp_path / "touched").unlink(missing_ok=True)
    with pytest.raises(UserError, match="refused"):
        load(folder)
    assert not (tmp_path / "touched").exists()
    (step / "model/pp_00/tp_00/sdp_00.pt").unlink()
    with pytest.raises(UserError, match="no step of a fairseq2 run"):
        load(step)
    (folder / "checkpoints/model.yaml").write_text("a: [")
    with pytest.raises(UserError, match="is no YAML"):
        load(folder / "checkpoints/step_2")
    (folder / "checkpoints/model.yaml").write_text("model_family: llama\nmodel_config: {}\n")
    with pytest.raises(UserError, match="llama"):
        load(folder / "checkpoints/step_2")
    (folder.parent / "ws_2.abc/checkpoints").mkdir(parents=True)
    (folder.parent / "ws_2.abc/checkpoints/model.yaml").touch()
    with pytest.raises(UserError, match="several runs"):
        load(folder.parent)
    with pytest.raises(UserError, match="no step yet"):
        load(folder.parent / "ws_2.abc")


def test_yaml_is_read_as_fairseq2_means_it(tmp_path):
    """YAML 1.2, which differs from PyYAML's in what letters and small numbers look like."""
    (tmp_path / "a.yaml").write_text("symbols: [<s>, no, on, y, =, '1', null]\nlr: 1e-05\nn: 3\nb: true\nx: -.5\n")
    assert read_yaml(tmp_path / "a.yaml") == {
        "symbols": ["<s>", "no", "on", "y", "=", "1", None], "lr": 1e-5, "n": 3, "b": True, "x": -0.5
    }  # fmt: skip


def test_what_sources_keep_survives_as_bytes():
    state = {"a": torch.ones(2), "targets.x._extra_state": {"fingerprint": "é", "stage": 2, "settings": {"a": None}}}
    packed = tensors_only(state)
    assert packed["targets.x._extra_state"].dtype == torch.uint8 and tensors_only(packed).keys() == packed.keys()
    assert (
        with_extra_state(packed)["targets.x._extra_state"]
        == state["targets.x._extra_state"]
        == with_extra_state(state)["targets.x._extra_state"]
    )
