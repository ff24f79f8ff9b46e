"""Two gloo processes, with DDP and with FSDP2, train as one process that takes two batches for an update."""

import multiprocessing
import os
import shutil
import socket

import pytest
import torch
from fairseq2.recipe.config import GradAccumulationConfig

from tests.fixtures.fairseq2_runs import SMALL, newest, train

PLAIN = {"encoder": {**SMALL, "dropout": 0.0, "attention_dropout": 0.0}}  # processes draw different random numbers
SHARDED = {"data_parallelism": "fsdp"}
STEPS = 5  # an epoch has 3 batches: in its second step one process gets an empty one
FEW = {"max_tokens": 130000, "valid_subset": "valid"}


def settings(**trainer):
    return dict(model=PLAIN, dataset=FEW, trainer=trainer)


EVERY = {"checkpoint_every_n_steps": 3}
RUNS = [
    ("best_rq_ddp", "best_rq", settings()),
    ("best_rq_fsdp", "best_rq", settings(**SHARDED)),
    ("birq_ddp", "birq", {**settings(), "regime": EVERY}),
    ("birq_fsdp", "birq", {**settings(**SHARDED), "regime": EVERY}),
]


def free_ports(count):
    """Every run gets one: the store of the run before may still be closing."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _process(rank, runs, ports, corpus, folder):
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", MASTER_ADDR="127.0.0.1")
    torch.set_num_threads(1)
    for (name, method, changes), port in zip(runs, ports):
        os.environ["MASTER_PORT"] = str(port)
        train(folder / name, method, corpus, STEPS, **changes)


def train_in_two(runs, corpus, folder):
    """Runs one after the other, each in two processes."""
    context, ports = multiprocessing.get_context("fork"), free_ports(len(runs))
    processes = [context.Process(target=_process, args=(rank, runs, ports, corpus, folder)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(1200)
        assert process.exitcode == 0


@pytest.fixture(scope="module")
def runs(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    train_in_two(RUNS, corpus, folder)
    return folder


def weights(checkpoints):
    """Trained ones, of one file, or of two shards joined along the first dimension."""
    names = sorted(path.name for path in next(checkpoints.glob("step_*/model/pp_00/tp_00")).iterdir())
    shards = [newest(checkpoints, "model", f"pp_00/tp_00/{name}")[0] for name in names]
    trained = [key for key in shards[0] if key.startswith(("speech_encoder", "heads"))]
    return {key: torch.cat([shard[key] for shard in shards]) for key in trained}


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


def test_two_processes_go_on_as_if_they_had_not_stopped(runs, corpus, tmp_path):
    stopped = [run for run in RUNS if run[0].startswith("birq")]
    for name, *_ in stopped:
        shutil.copytree(runs / name, tmp_path / name)
        shutil.rmtree(tmp_path / name / "checkpoints" / f"step_{STEPS}")
    train_in_two(stopped, corpus, tmp_path)
    for name, *_ in stopped:
        again, whole = weights(tmp_path / name / "checkpoints"), weights(runs / name / "checkpoints")
        assert again.keys() == whole.keys() and all(torch.equal(again[key], whole[key]) for key in whole), name
