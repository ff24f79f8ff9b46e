"""Two gloo processes, with DDP and with FSDP2, train as one process that takes two batches for an update."""

import multiprocessing
import os
import socket

import pytest
import torch
from fairseq2.recipe.config import GradAccumulationConfig

from tests.fixtures.fairseq2_runs import SMALL, newest, train

PLAIN = {"encoder": {**SMALL, "dropout": 0.0, "attention_dropout": 0.0}}  # processes draw different random numbers
SHARDED = {"data_parallelism": "fsdp"}
STEPS = 5  # an epoch is 3 and a half: one process gets an empty batch in the end
FEW = {"max_tokens": 52000, "valid_subset": "valid"}


def settings(**trainer):
    return dict(model=PLAIN, dataset=FEW, trainer=trainer)


def _process(rank, port, corpus, folder):
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    for method in ("best_rq", "birq"):
        train(folder / f"{method}_ddp", method, corpus, STEPS, **settings())
        train(folder / f"{method}_fsdp", method, corpus, STEPS, **settings(**SHARDED))


@pytest.fixture(scope="module")
def runs(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_process, args=(rank, port, corpus, folder)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(900)
        assert process.exitcode == 0
    return folder


def weights(checkpoints):
    """Of one file, or of two shards joined along the first dimension."""
    names = sorted(path.name for path in next(checkpoints.glob("step_*/model/pp_00/tp_00")).iterdir())
    shards = [newest(checkpoints, "model", f"pp_00/tp_00/{name}")[0] for name in names]
    if len(shards) == 1:
        return {key: value for key, value in shards[0].items() if key.startswith(("speech_encoder", "heads"))}
    joined = {}
    for key, value in shards[0].items():
        if key.startswith(("speech_encoder", "heads")):
            other = shards[1][key]
            joined[key] = value if value.shape == other.shape and torch.equal(value, other) else torch.cat([value, other])
    return joined


def largest_difference(first, second):
    assert first.keys() == second.keys()
    return max(float((first[key] - second[key]).abs().max()) for key in first)


def test_two_processes_train_as_one_with_two_batches(runs, corpus, tmp_path):
    one = train(tmp_path, "best_rq", corpus, STEPS, **settings())
    accumulated = {"grad_accumulation": GradAccumulationConfig(num_batches=2)}
    two = train(tmp_path / "accumulated", "best_rq", corpus, STEPS, **settings(**accumulated))
    assert largest_difference(weights(runs / "best_rq_ddp/checkpoints"), weights(two)) < 1e-6
    assert largest_difference(weights(one), weights(two)) > 1e-4


@pytest.mark.parametrize("method", ["best_rq", "birq"])
def test_sharded_weights_are_those_of_replicas(runs, method):
    ddp, fsdp = (weights(runs / f"{method}_{kind}/checkpoints") for kind in ("ddp", "fsdp"))
    assert largest_difference(ddp, fsdp) < 1e-5
