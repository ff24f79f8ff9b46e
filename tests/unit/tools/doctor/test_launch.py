from pathlib import Path
from types import SimpleNamespace

import pytest

from fairseq_birq.tools.doctor import launch
from fairseq_birq.tools.doctor.config import Launch


def config(world_size, cpu=False):
    return SimpleNamespace(
        common=SimpleNamespace(cpu=cpu),
        distributed_training=SimpleNamespace(distributed_world_size=world_size),
        checkpoint=SimpleNamespace(save_dir="/run", restore_file="checkpoint_last.pt"),
    )


def commands(monkeypatch, world_size, gpus, *overrides):
    monkeypatch.setattr(launch.torch.cuda, "device_count", lambda: gpus)
    given = Launch(Path("/recipes/debug.yaml"), ["criterion.weights={raw_input: 1}", *overrides])
    return [command for _, command in launch.commands(config(world_size), given)]


def test_gpus_are_started_by_torchrun_and_one_process_without(monkeypatch):
    one, nodes, slurm, resume = commands(monkeypatch, 1, 8, "distributed_training.distributed_world_size=1")
    arguments = "--config-dir /recipes --config-name debug 'criterion.weights={raw_input: 1}'"
    assert one == f"torchrun --nproc_per_node 8 --no-python examples/run/process.sh {arguments}"
    assert nodes == f"HEAD=name-of-node-0 NODES=2 NODE_RANK=0 PROCESSES=8 examples/run/node.sh {arguments}"
    assert slurm == f"sbatch --nodes 2 --ntasks-per-node 8 --gpus-per-node 8 examples/run/slurm.sh {arguments}"
    assert resume.endswith("/run/checkpoint_last.pt")
    assert commands(monkeypatch, 1, 1)[0].startswith("fairseq-hydra-train --config-dir /recipes")


def test_without_gpus_all_commands_say_cpu(monkeypatch):
    found = commands(monkeypatch, 2, 0)[:3]
    assert all(command.endswith("common.cpu=true") for command in found) and "--nproc_per_node 2" in found[0]
    assert all(command.count("common.cpu=true") == 1 for command in commands(monkeypatch, 2, 0, "common.cpu=true")[:3])


@pytest.mark.parametrize("world_size, gpus, fits", [(8, 8, True), (16, 8, True), (1, 8, True), (8, 0, False), (3, 8, False)])
def test_processes_against_gpus(monkeypatch, world_size, gpus, fits):
    monkeypatch.setattr(launch.torch.cuda, "device_count", lambda: gpus)
    assert launch.check_processes(config(world_size)).status == ("ok" if fits else "warning")
