"""A run that goes on from any of its checkpoints ends as if it had not stopped, bit for bit."""

import shutil

import pytest
import torch

from tests.fixtures.fairseq2_runs import TARGETS, newest, train

UPDATES = 8  # an epoch has 6; latent_rq's stages begin at 3 and 6
FILES = [("model", "pp_00/tp_00/sdp_00.pt"), ("optimizer", "pp_00/tp_00/sdp_00.pt"), ("data_reader", "dp_00.pt")]
STOPS = {"best_rq": [6], "birq": [4], "latent_rq": [3, 6], "averaging": [4]}


def assert_same(first, second, path=""):
    if isinstance(first, dict):
        assert first.keys() == second.keys(), path
        for key in first:
            assert_same(first[key], second[key], f"{path}/{key}")
    elif torch.is_tensor(first):
        assert torch.equal(first, second), path
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second), path
        for index, (one, other) in enumerate(zip(first, second)):
            assert_same(one, other, f"{path}[{index}]")
    else:
        assert first == second, path


def learned(checkpoints):
    """All but times and what is logged."""
    trainer = newest(checkpoints, "trainer", "rank_00.pt")[0]
    kept = {key: trainer[key] for key in ("_step_nr", "_data_epoch_nr", "_lr_scheduler", "_rng_bag")}
    return {**kept, **{part: newest(checkpoints, part, file)[0] for part, file in FILES}}


@pytest.mark.parametrize("method", TARGETS)
def test_stop_and_go_on_equals_not_stopping(method, corpus, tmp_path):
    """In the middle of an epoch, at its end, and at both updates at which targets are renewed; dropout is on."""
    every = {"checkpoint_every_n_steps": STOPS[method][0]}
    whole = train(tmp_path / "whole", method, corpus, UPDATES, regime=every)
    assert newest(whole)[1] == UPDATES
    wanted = learned(whole)
    for stop in STOPS[method]:
        folder = tmp_path / f"stopped_{stop}"
        shutil.copytree(tmp_path / "whole", folder)
        for step in (folder / "checkpoints").glob("step_*"):
            if int(step.name[5:]) > stop:
                shutil.rmtree(step)
        assert newest(folder / "checkpoints")[1] == stop
        assert_same(learned(train(folder, method, corpus, UPDATES, regime=every)), wanted, f"from {stop}: ")


def test_workers_that_read_audio_change_nothing(corpus, tmp_path):
    alone = train(tmp_path / "alone", "best_rq", corpus, 3, dataset={"valid_subset": None})
    with_worker = train(tmp_path / "worker", "best_rq", corpus, 3, dataset={"valid_subset": None, "num_workers": 1})
    assert_same(learned(with_worker), learned(alone))
