"""Two gloo processes fine-tune, with DDP and with FSDP2, as one process that takes two batches for an update."""

import json

import pytest
import torch
from fairseq2.recipe.config import GradAccumulationConfig

from fairseq_birq.checkpoint import load
from fairseq_birq.errors import UserError
from fairseq_birq.fairseq2.ctc_family import architecture, create_ctc_model
from fairseq_birq.fairseq2.families import apply_fsdp
from fairseq_birq.settings import merged
from tests.fixtures.fairseq2 import ctc_case
from tests.fixtures.fairseq2.ctc_runs import config_of, train
from tests.fixtures.fairseq2.two_processes import run_in_two

CURVES = ("CTC Loss", "Number of Target Elements", "Gradient Norm")
STEPS = 4  # with the frozen beginning; an epoch is 3 updates of two batches


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    data = ctc_case.write_corpus(folder / "data")
    run_in_two(train, folder / "ddp", config_of(data, STEPS))
    run_in_two(train, folder / "fsdp", config_of(data, STEPS, data_parallelism="fsdp"))
    train(folder / "one", config_of(data, STEPS, grad_accumulation=GradAccumulationConfig(num_batches=2)))
    return folder


def logged(folder):
    return [json.loads(line) for line in (folder / "metrics/train.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes_learn_what_one_learns(runs, kind):
    """Read as any checkpoint is: of FSDP the shards are joined."""
    two, one = load(runs / kind)[1], load(runs / "one")[1]
    assert two.keys() == one.keys()
    assert max(float((two[key] - one[key]).abs().max()) for key in one) < 1e-5
    for key in ("CTC Loss", "Number of Target Elements", "Gradient Norm"):
        assert [line[key] for line in logged(runs / kind)] == pytest.approx(
            [line[key] for line in logged(runs / "one")], rel=1e-4
        )


def test_sharded_layers_cannot_be_skipped():
    config = merged(architecture("debug"), {"symbols": ["<s>", "a"], "encoder": {"layer_dropout": 0.1}})
    torch.manual_seed(0)
    with pytest.raises(UserError, match="cannot skip layers"):
        apply_fsdp(create_ctc_model(config), "layer", None)
