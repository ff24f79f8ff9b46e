"""What earlier versions wrote and promised still holds: checkpoints, labels, gradients, settings, commands.

`tests/fixtures/earlier_versions/make.py` says how the files came about. Where one of these tests fails, a user's
checkpoint or recipe of an earlier version fails too, or trains differently.
"""

import importlib
import json
import re
import shutil

import numpy as np
import pytest
import torch
from fairseq import checkpoint_utils

from fairseq_birq import load_encoder
from fairseq_birq.model import BirqModel
from tests.fixtures import runs
from tests.fixtures.earlier_versions import cases

PRETRAINED = [name for name in cases.CHECKPOINTS if name != "finetune"]
ALWAYS = ("best_rq", "latent_rq")  # fine-tuning loads the encoder of every method by the same code
EXPECTED = json.loads((cases.FOLDER / "gradients.json").read_text())
KEYS = json.loads((cases.FOLDER / "config_keys.json").read_text())
# Masks' noise and CTC are in float32, whose last bits depend on the machine and on torch: with the same code, AVX2 and
# AVX512 differ by up to 3e-6 in CTC's gradients.
TOLERANCE = 1e-10 if EXPECTED["machine"] == cases.machine() else 1e-5
MOST_CHANGE = 0.01  # of a weight by Adam in two updates, whose learning rate is at most 0.001
SMALL_GRADIENT = 1e-3  # share of the whole gradient's norm below which a parameter's is compared with that share of it


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return cases.write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def training_data(tmp_path_factory):
    return cases.write_training_data(tmp_path_factory.mktemp("training_data"))


@pytest.fixture(autouse=True)
def one_thread():
    """The order of sums depends on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def assert_close(found, expected, scale, what):
    found, expected = np.asarray(found, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    assert found.shape == expected.shape, what
    assert np.all(np.abs(found - expected) <= TOLERANCE * np.maximum(np.abs(expected), scale)), (what, found, expected)


def assert_same_summaries(found, expected, floor=0.0):
    """Of tensors by name, each compared relative to its norm."""
    assert found.keys() == expected.keys()
    for name, then in expected.items():
        now = found[name]
        assert (now["dtype"], now["shape"]) == (then["dtype"], then["shape"]), name
        assert_close([now["norm"], *now["products"]], [then["norm"], *then["products"]], max(then["norm"], floor), name)


@pytest.mark.parametrize("case", cases.GRADIENTS)
def test_loss_and_gradients_are_those_of_earlier_versions(case, data):
    found, expected = cases.gradients(case, data), EXPECTED["cases"][case]
    for key in ("sample_size", "without_gradient", "not_in_state", "also_in_state"):
        assert found[key] == expected[key], key
    assert_close(found["loss"], expected["loss"], 0.0, "loss")
    assert set(expected["logged"]) <= set(found["logged"])
    for key, value in expected["logged"].items():
        assert_close(found["logged"][key], value, 1.0, key)
    norms = [gradient["norm"] for gradient in expected["gradients"].values()]
    assert_same_summaries(found["gradients"], expected["gradients"], SMALL_GRADIENT * np.linalg.norm(norms))
    assert_same_summaries(found["buffers"], expected["buffers"])


@pytest.mark.parametrize("name", PRETRAINED)
def test_a_pretrained_checkpoint_gives_the_same_hidden_states_loss_and_labels(name, data):
    path, expected = cases.FOLDER / f"{name}.pt", EXPECTED["checkpoints"][name]
    found = cases.outputs(load_encoder(path), BirqModel.from_checkpoint(path), data)
    assert_same_layers(found, expected)
    assert found["stage"] == expected["stage"] == (1 if name == "latent_rq" else None)
    assert_close(found["loss"], expected["loss"], 0.0, "loss")
    assert found["terms"].keys() == expected["terms"].keys()
    for source, term in expected["terms"].items():
        assert found["terms"][source]["codes"] == term["codes"], source
        assert_close(found["terms"][source]["loss_sum"], term["loss_sum"], 0.0, source)


def test_a_fine_tuned_checkpoint_gives_the_same_hidden_states_and_decodes(data):
    path = cases.FOLDER / "finetune.pt"
    assert_same_layers(cases.outputs(load_encoder(path), None, data), EXPECTED["checkpoints"]["finetune"])
    models, _, task = checkpoint_utils.load_model_ensemble_and_task([str(path)], arg_overrides={"data": str(data)})
    sample = cases.batch(task)
    sample["net_input"]["waveform"] = sample["net_input"]["waveform"].float()
    generator = task.build_generator(models, cases.OmegaConf.create({"beam": 1, "nbest": 1, "lm_weight": 0.0}))
    assert len(task.inference_step(generator, models, sample)) == len(cases.TEXTS)


def assert_same_layers(found, expected):
    layers = [{f"layer {k}": layer for k, layer in enumerate(part["layers"], start=1)} for part in (found, expected)]
    assert_same_summaries(*layers)


@pytest.fixture
def run(training_data, repository, tmp_path):
    """Train the recipe of a checkpoint up to an update in `tmp_path`/run; the log and the checkpoint at the end."""

    def run(name, max_update, pretrained_path=None, **settings):
        method, changes = cases.checkpoint_changes(name)
        more = {"dataset": {"max_tokens": cases.MAX_TOKENS, "disable_validation": True}}
        more.update(optimization={"max_update": max_update}, checkpoint={"save_interval_updates": 0})
        if pretrained_path is not None:
            more["model"] = {"pretrained_path": str(pretrained_path), **settings}
            more["lr_scheduler"] = {"phase_ratio": [0.5, 0.0, 0.5]} if method == "finetune" else {}
        if method == "relabelling":
            more["model"] = {"targets": {"label_file": {"path": str(training_data / "labels")}}}
        cfg = runs.settings(repository, method, training_data, tmp_path / "run", changes, more)
        cfg["task"]["max_seconds"] = 4.0
        if method == "finetune":
            del cfg["task"]["max_seconds"]
        return runs.train(cfg, tmp_path / "log.txt"), runs.last_checkpoint(tmp_path / "run")

    return run


@pytest.mark.parametrize("name", cases.CHECKPOINTS)
def test_training_goes_on_from_a_checkpoint(name, run, tmp_path):
    path, updates = cases.FOLDER / f"{name}.pt", cases.UPDATES[name]
    (tmp_path / "run").mkdir()
    shutil.copy(path, tmp_path / "run" / "checkpoint_last.pt")
    log, checkpoint = run(name, updates + 2)
    assert f"going on after {updates} updates" in log
    assert checkpoint["optimizer_history"][-1]["num_updates"] == updates + 2
    before = torch.load(str(path), map_location="cpu", weights_only=True)
    assert checkpoint["model"].keys() == before["model"].keys()
    moments = [content["last_optimizer_state"]["state"] for content in (before, checkpoint)]
    assert moments[0].keys() == moments[1].keys() and len(moments[0]) > 30
    assert moments[1][0]["step"] == moments[0][0]["step"] + 2
    weight = "speech_encoder.frontend.subsampling.conv1.weight"
    change = (checkpoint["model"][weight] - before["model"][weight]).abs().max()
    assert 0 < change < MOST_CHANGE, change


@pytest.mark.parametrize("name", [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.slow) for name in PRETRAINED])
def test_fine_tuning_starts_from_a_checkpoint(name, run):
    log, checkpoint = run("finetune", 2, cases.FOLDER / f"{name}.pt", freeze_encoder_updates=1)
    before = torch.load(str(cases.FOLDER / f"{name}.pt"), map_location="cpu", weights_only=True)["model"]
    ours = {key: value for key, value in checkpoint["model"].items() if key.startswith("speech_encoder.")}
    change = max((value - before[key]).abs().max() for key, value in ours.items())
    assert len(ours) > 20 and 0 < change < MOST_CHANGE, change  # learned in the second update alone
    assert checkpoint["optimizer_history"][-1]["num_updates"] == 2
    assert checkpoint["cfg"]["model"]["encoder"]["dim"] == cases.TINY["encoder"]["dim"]


def test_another_pretraining_starts_from_a_checkpoint(run):
    log, _ = run("birq", 1, cases.FOLDER / "best_rq.pt")
    assert re.search(r"encoder and heads \['raw_input'\] come from .*best_rq\.pt", log)


CHANGED_DEFAULTS = {
    ("task birq_asr", "decoder"): "auto",  # greedy still, where no lexicon is given; that was an error
    ("model birq", "block_mb"): 0.0,  # 16 still, on a CPU; nothing that is learned depends on it
}


@pytest.mark.parametrize("registered", KEYS["keys"])
def test_every_setting_of_earlier_versions_is_there_with_its_default_and_choices(registered):
    now = cases.config_keys()
    assert registered in now, f"{registered} is no longer registered with fairseq: recipes and checkpoints name it"
    for key, (default, choices) in KEYS["keys"][registered].items():
        where = f"`{key}` of {registered}"
        assert key in now[registered], f"{where} is gone: recipes and checkpoints of earlier versions would be refused"
        changed = CHANGED_DEFAULTS.get((registered, key), default)
        assert now[registered][key][0] == changed, f"the default of {where} was {default}: old recipes would train otherwise"
        missing = set(choices or ()) - set(now[registered][key][1] or ())
        assert not missing, f"{where} no longer knows {sorted(missing)}"


@pytest.mark.parametrize("script", KEYS["console_scripts"])
def test_every_command_of_earlier_versions_is_there(script):
    now = cases.console_scripts()
    assert script in now, f"{script} is gone: setup.py must install a command of that name"
    module, function = now[script].split(":")
    assert callable(getattr(importlib.import_module(module), function))
