"""Stopping and going on in half precision: the float32 weights are in the checkpoint, and in the optimizer afterwards."""

import pytest
import torch

from tests.fixtures import runs

PRECISIONS = {"bf16": {"bf16": True}, "fp16": {"fp16": True, "fp16_no_flatten_grads": True, "fp16_init_scale": 4}}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return runs.write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_stopped_run_goes_on_bit_for_bit(repository, corpus, tmp_path, precision):
    common = {"common": PRECISIONS[precision]}

    def run(name, max_update):
        cfg = runs.settings(repository, "best_rq", corpus, tmp_path / name, common, {"optimization": {"max_update": max_update}})
        runs.train(cfg, tmp_path / f"{name}.log")
        return torch.load(tmp_path / name / "checkpoint_last.pt", map_location="cpu", weights_only=True)

    whole, stopped = run("whole", 6), run("stopped", 3)
    weights = [value for key, value in stopped["model"].items() if key.endswith("weight")]
    half = torch.bfloat16 if precision == "bf16" else torch.float16
    assert any(not torch.equal(weight.to(half).float(), weight) for weight in weights)  # there is precision to lose
    resumed = run("stopped", 6)
    for part in ("model", "last_optimizer_state"):
        runs.assert_same(resumed[part], whole[part])
