"""Which settings may differ when a run goes on, and which belong to a run of its own."""

import copy

import pytest

from fairseq_birq.errors import UserError
from fairseq_birq.patches.same_settings import check_same_settings

RUN = {
    "common": {"seed": 1, "log_interval": 10},
    "task": {"crop_seed": 1, "data": "/data"},
    "optimization": {"lr": [0.001], "max_update": 100, "clip_norm": 5.0, "update_freq": [1]},
    "optimizer": {"_name": "adam", "adam_betas": "(0.9,0.98)", "lr": [0.001]},
    "lr_scheduler": {"_name": "polynomial_decay", "warmup_updates": 5, "total_num_update": 100},
    "criterion": {"_name": "birq", "weights": {"raw_input": 2.4, "own_layer": 0.1}, "log_grad_every": 0},
    "model": {"_name": "birq", "encoder": {"dim": 32, "checkpoint_activations": False}, "mask": {"start_prob": 0.01}},
}


def changed(path, value):
    cfg = copy.deepcopy(RUN)
    *parents, key = path.split("/")
    part = cfg
    for parent in parents:
        part = part.setdefault(parent, {})
    part[key] = value
    return cfg


FREE = {
    "optimization/max_update": 200,
    "optimization/update_freq": [2],
    "lr_scheduler/total_num_update": 200,
    "common/log_interval": 1,
    "task/data": "/moved",
    "criterion/log_grad_every": 10,
    "model/encoder/checkpoint_activations": True,
    "optimization/lr": (0.001,),
    "optimization/clip_norm": 5,
    "optimizer/_name": "birq_adamw",
    "model/new_setting_of_a_later_version": 3,
}
FIXED = {
    "optimization/lr": [0.01],
    "optimization/clip_norm": 1.0,
    "optimizer/_name": "adamax",
    "lr_scheduler/warmup_updates": 6,
    "criterion/weights": {"raw_input": 2.4},
    "criterion/weights/own_layer": 1.0,
    "model/encoder/dim": 64,
    "model/mask/start_prob": 0.02,
    "common/seed": 2,
    "task/crop_seed": 2,
}


@pytest.mark.parametrize("path", FREE)
def test_how_long_how_often_and_where_may_differ(path):
    check_same_settings(RUN, changed(path, FREE[path]), "runs/a")


@pytest.mark.parametrize("path", FIXED)
def test_what_decides_what_is_learned_may_not(path):
    with pytest.raises(UserError, match=path.replace("/", ".").split(".weights.")[0]) as error:
        check_same_settings(RUN, changed(path, FIXED[path]), "runs/a")
    assert "runs/a holds a run with other settings" in str(error.value) and "task.resume=changed" in str(error.value)


def test_settings_of_targets_that_are_not_used_do_not_count():
    cfgs = [
        changed("model/targets", {"use": ["raw_input"], "raw_input": {"norm": "frame"}, "snapshot": {"layers": [layer]}})
        for layer in (1, 2)
    ]
    check_same_settings(*cfgs, "runs/a")
    for cfg in cfgs:
        cfg["model"]["targets"]["use"] = ["raw_input", "snapshot"]
    with pytest.raises(UserError, match=r"model.targets.snapshot.layers \[1\] -> \[2\]"):
        check_same_settings(*cfgs, "runs/a")


@pytest.mark.parametrize("path", ["model/pretrained_path", "task/max_seconds", "dataset/train_subset", "task/corpora"])
def test_null_says_nothing_of_a_path_and_much_of_a_length(path):
    cfgs = [changed(path, None), changed(path, "a"), changed(path, "b")]
    with pytest.raises(UserError, match=path.replace("/", ".")):
        check_same_settings(*cfgs[1:], "runs/a")
    if path == "model/pretrained_path":
        check_same_settings(*cfgs[:2], "runs/a")
    else:
        with pytest.raises(UserError, match=path.replace("/", ".")):
            check_same_settings(*cfgs[:2], "runs/a")
