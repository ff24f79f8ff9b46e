"""Whole runs with `birq_adamw`: it goes on with a run that began with `adam`, and forgets with each stage of the targets."""

import pytest
import torch

from tests.fixtures import runs

PRECISIONS = {"fp32": {}, "bf16": {"bf16": True}}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return runs.write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def train(repository, corpus, tmp_path):
    """Trains, or goes on; the last checkpoint."""

    def run(name, method, optimizer, max_update, common):
        changes = {"common": common, "optimization": {"max_update": max_update}, "optimizer": {"_name": optimizer}}
        runs.train(runs.settings(repository, method, corpus, tmp_path / name, changes), tmp_path / f"{name}.log")
        return torch.load(tmp_path / name / "checkpoint_last.pt", map_location="cpu", weights_only=True)

    return run


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_run_of_adam_goes_on(train, precision):
    whole = train("whole", "best_rq", "adam", 6, PRECISIONS[precision])
    train("mixed", "best_rq", "adam", 3, PRECISIONS[precision])
    mixed = train("mixed", "best_rq", "birq_adamw", 6, PRECISIONS[precision])
    assert all(state["step"] == 6 for state in mixed["last_optimizer_state"]["state"].values())
    for key, value in whole["model"].items():
        if torch.is_tensor(value) and value.is_floating_point():
            torch.testing.assert_close(mixed["model"][key], value, rtol=1e-5, atol=1e-5)


def test_a_stage_of_the_targets_begins_without_memory(train):
    checkpoint = train("run", "latent_rq", "birq_adamw", runs.UPDATES, PRECISIONS["bf16"])
    states = checkpoint["last_optimizer_state"]["state"].values()
    assert states and {state["step"] for state in states} == {runs.UPDATES - runs.STAGES[-1]}
