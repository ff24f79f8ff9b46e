"""The commands that start a run: one node, several nodes, SLURM; and the one that goes on with it."""

import shlex
from typing import List, Tuple

import torch

from fairseq_birq.tools.doctor.checks import Check, ok, warning
from fairseq_birq.tools.doctor.config import Launch

OF_LAUNCHERS = ("world_size", "rank", "init_method", "no_spawn", "backend")


def check_processes(cfg) -> Check:
    """`distributed_training.distributed_world_size` against the GPUs of this machine."""
    wanted, gpus = cfg.distributed_training.distributed_world_size, num_gpus(cfg)
    if gpus and wanted % gpus == 0:
        nodes = wanted // gpus
        return ok("processes", f"{wanted} on {gpus} GPUs" if nodes == 1 else f"{wanted}: {nodes} nodes of {gpus} GPUs")
    if wanted == 1:
        return ok("processes", "1, on the CPU" if not gpus else f"1, on one of {gpus} GPUs")
    text = f"distributed_training.distributed_world_size is {wanted}, but this machine has {gpus} GPUs in use"
    return warning("processes", f"{text}: the commands below start as many processes as they say")


def num_gpus(cfg) -> int:
    return 0 if cfg.common.cpu else torch.cuda.device_count()


def commands(cfg, launch: Launch, nodes: int = 2) -> List[Tuple[str, str]]:
    """(when, command), to be run in the repository's root."""
    gpus = num_gpus(cfg)
    processes = gpus or max(1, cfg.distributed_training.distributed_world_size)
    arguments = shlex.join(["--config-dir", str(launch.path.parent), "--config-name", launch.path.stem, *_kept(launch.overrides)])
    if not gpus and "common.cpu=true" not in launch.overrides:
        arguments += " common.cpu=true"
    single = f"fairseq-hydra-train {arguments} distributed_training.distributed_world_size=1"
    if processes > 1:
        single = f"torchrun --nproc_per_node {processes} --no-python examples/run/process.sh {arguments}"
    several = f"HEAD=name-of-node-0 NODES={nodes} NODE_RANK=0 PROCESSES={processes} examples/run/node.sh {arguments}"
    slurm = f"--nodes {nodes} --ntasks-per-node {processes}" + (f" --gpus-per-node {gpus}" if gpus else " --gpus-per-node 0")
    return [
        ("on this machine:", single),
        (f"on {nodes} nodes, on each with its own NODE_RANK:", several),
        (f"on {nodes} nodes of SLURM:", f"sbatch {slurm} examples/run/slurm.sh {arguments}"),
        ("to go on with it:", f"the same command; training goes on from {_last_checkpoint(cfg)}"),
    ]


def _last_checkpoint(cfg):
    return f"{cfg.checkpoint.save_dir}/{cfg.checkpoint.restore_file}"


def _kept(overrides):
    """All overrides but those that the launchers give themselves."""
    ours = [f"distributed_training.distributed_{name}=" for name in OF_LAUNCHERS]
    return [override for override in overrides if not override.lstrip("+").startswith(tuple(ours))]
