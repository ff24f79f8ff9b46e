"""The commands that start a run: one node, several nodes, SLURM; and the one that goes on with it."""

import shlex
from typing import List

import torch

from fairseq_birq.doctor.config import Launch
from fairseq_birq.doctor.report import Check, ok, warning

PROCESS = "examples/run/process.sh"  # starts one process of a run, on a GPU or on CPUs
OURS = ("distributed_world_size", "distributed_rank", "distributed_init_method", "distributed_no_spawn", "distributed_backend")


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


def commands(cfg, launch: Launch, nodes: int = 2) -> List[str]:
    """Lines `title: command`, to be run in the repository's root."""
    gpus = num_gpus(cfg)
    processes = gpus or max(1, cfg.distributed_training.distributed_world_size)
    arguments = shlex.join(["--config-dir", str(launch.path.parent), "--config-name", launch.path.stem, *_kept(launch.overrides)])
    if not gpus and "common.cpu=true" not in launch.overrides:
        arguments += " common.cpu=true"
    single = f"fairseq-hydra-train {arguments} distributed_training.distributed_world_size=1"
    if processes > 1:
        single = f"torchrun --nproc_per_node {processes} --no-python {PROCESS} {arguments}"
    rendezvous = f"--nnodes {nodes} --node_rank RANK --master_addr HOST --master_port 29500"
    several = f"torchrun {rendezvous} --nproc_per_node {processes} --no-python {PROCESS} {arguments}"
    slurm = f"--nodes {nodes} --ntasks-per-node {processes}" + (f" --gpus-per-node {gpus}" if gpus else "")
    return [
        f"one node: {single}",
        f"{nodes} nodes (on each; RANK from 0, HOST of the first): {several}",
        f"SLURM: sbatch {slurm} examples/run/slurm.sh {arguments}",
        f"resume: the same command; it goes on from {cfg.checkpoint.save_dir}/{cfg.checkpoint.restore_file}",
    ]


def _kept(overrides):
    """All overrides but those that the launchers give themselves."""
    ours = [f"distributed_training.{name}=" for name in OURS]
    return [override for override in overrides if not override.lstrip("+").startswith(tuple(ours))]
