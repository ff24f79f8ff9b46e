"""What a run needs of memory, disk and time, from a dry run in a process of its own."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import List, Tuple

import torch
from omegaconf import OmegaConf

from fairseq_birq.tools.doctor.checks import Check, ok, problem, warning
from fairseq_birq.tools.doctor.dry_run import LAUNCHER, read_result
from fairseq_birq.tools.doctor.folders import check_disk

MIB = 1 << 20
LIMIT_SECONDS = 180  # for the whole dry run; it aims at less than a minute
USABLE = 0.9  # of the memory that is there: the rest is for longer batches' fragments and for workers
ROUND_SAMPLES = 10000
LEGACY_BUFFER = 1 << 28  # values that fairseq's legacy_ddp collects at most, before it sends them
TRUSTED_GROWTH = 10  # batches this many times the largest measured one may be proposed


def dry_run(cfg, limit_seconds: float = LIMIT_SECONDS) -> dict:
    """What dry_run.main found, with `error` where the run would stop, or `timeout`. The process is gone afterwards."""
    cfg = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True, enum_to_str=True))
    cfg.distributed_training.update(distributed_world_size=1, distributed_init_method=None, distributed_rank=0)
    with tempfile.TemporaryDirectory(prefix="birq-doctor-") as folder:
        config, result = Path(folder) / "config.yaml", Path(folder) / "result.json"
        OmegaConf.save(cfg, str(config))
        command = [sys.executable, "-W", "ignore", "-c", LAUNCHER, cfg.common.user_dir, str(config), str(result)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=limit_seconds)
        except subprocess.TimeoutExpired:
            return {**read_result(result), "timeout": limit_seconds}
        found = read_result(result)
    if done.returncode and "error" not in found:
        lines = done.stderr.strip().splitlines() or ["it says nothing"]
        killed = f"killed by signal {-done.returncode}, as when memory is full"
        found["error"] = killed if done.returncode < 0 else lines[-1]
    return found


def check_dry_run(cfg, found: dict) -> List[Check]:
    """Checks of the user directory, the model, its memory, the disk and the time, as far as the dry run went."""
    checks = _check_start(cfg, found)
    if "optimizer_bytes" in found:
        checks += check_disk(cfg, found["model_bytes"] + found["optimizer_bytes"])
    if found.get("points"):
        available, where = available_bytes(cfg)
        checks += check_memory(cfg, found, available, where) + [estimate_time(cfg, found)]
    return checks


def _check_start(cfg, found):
    checks, stage = [], found.get("stage", "start")
    user_dir = cfg.common.user_dir
    if found.get("spawn_status") == 0:
        checks.append(ok("user_dir", f"{user_dir} is found by spawned processes"))
    elif found.get("spawn_status") is not None:
        checks.append(problem("user_dir", f"a spawned process cannot import {user_dir}: make it readable and importable"))
    if "error" in found:
        return checks + [problem(stage, found["error"])]
    if "timeout" in found:
        return checks + [warning("dry run", f"cut off after {found['timeout']:.0f} s, at {stage}")]
    parts = [f"{name} {found[f'{name}_bytes'] / MIB:.0f}" for name in ("model", "gradient", "optimizer")]
    return checks + [ok("model", f"{found['parameters'] / 1e6:.1f} M parameters; MiB: {', '.join(parts)}")]


def fit(points) -> Tuple[float, float]:
    """(bytes, bytes per sample) of the line through the last two measured points."""
    (few, least, _), (many, most, _) = points[-2:]
    slope = max(most - least, 1) / (many - few)
    return most - slope * many, slope


def wrapper_bytes(cfg, parameters: int) -> int:
    """What the wrapper of several processes adds to the dry run's one: a second copy of the gradients, all or a part."""
    distributed = cfg.distributed_training
    if distributed.distributed_world_size < 2:
        return 0
    legacy = distributed.ddp_backend in ("legacy_ddp", "no_c10d")
    if not legacy and getattr(distributed, "gradient_as_bucket_view", False):
        return 0
    size = 2 if cfg.common.fp16 or cfg.common.bf16 else 4
    return size * (min(parameters, LEGACY_BUFFER) if legacy else parameters)


def check_memory(cfg, found: dict, available: float, where: str) -> List[Check]:
    """Whether the configured batch fits, and the largest `dataset.max_tokens` that does."""
    points = found["points"]
    if len(points) < 2 or points[-1][0] <= points[-2][0]:
        text = f"not measured: an update of {points[-1][0]} samples takes {points[-1][2]:.0f} s here"
        return [warning("memory", f"{text}; try again on a machine with less to do")]
    fixed, per_sample = fit(points)
    buffer = wrapper_bytes(cfg, found.get("parameters", 0))
    fixed += buffer
    wanted, longest = found["full_samples"], found["longest_samples"]
    needed = fixed + per_sample * wanted
    measured = points[-1][0]
    trusted = max(TRUSTED_GROWTH * measured, wanted)
    most = int(min((USABLE * available - fixed) / per_sample, trusted)) // ROUND_SAMPLES * ROUND_SAMPLES
    how = "measured" if 0.9 * wanted <= measured <= 1.1 * wanted else f"by a line through batches of up to {measured}"
    how += f", with {buffer / MIB:.0f} MiB that {cfg.distributed_training.ddp_backend} sends" if buffer else ""
    text = f"{needed / MIB:.0f} MiB for a batch of {wanted} samples ({how}), {available / MIB:.0f} MiB {where}"
    if most < longest:
        advice = f"not even the longest utterance, {longest} samples, fits: shorten task.max_seconds or the model"
        return [problem("memory", f"{text}; {advice}")]
    if needed > available:
        return [problem("memory", f"{text}: dataset.max_tokens={most} fits; optimization.update_freq makes up for it")]
    kind = warning if needed > USABLE * available else ok
    return [kind("memory", f"{text}; dataset.max_tokens up to {most} fits")]


def estimate_time(cfg, found: dict) -> Check:
    samples, _, seconds = found["points"][-1]
    update = seconds * found["full_samples"] / samples * cfg.optimization.update_freq[0]
    text = f"about {update:.2g} s per update"
    if cfg.optimization.max_update > 0:
        text += f", {update * cfg.optimization.max_update / 3600:.2g} h for {cfg.optimization.max_update} updates"
    return ok("time", f"{text}, on one process of this machine and without validation")


def available_bytes(cfg) -> Tuple[float, str]:
    """Memory for one process, and in words where it is."""
    if torch.cuda.is_available() and not cfg.common.cpu:
        return float(torch.cuda.mem_get_info(0)[0]), "free on the first GPU"
    processes = max(1, cfg.distributed_training.distributed_world_size)
    free = min([_meminfo("MemAvailable"), *_cgroup_limit()]) / processes
    return free, "of free memory" if processes == 1 else f"of free memory for each of {processes} processes"


def _meminfo(key):
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key + ":"))


def _cgroup_limit():
    """What a container or a batch job may still take (cgroup v2), if it is limited."""
    folder = Path("/sys/fs/cgroup")
    try:
        return [int((folder / "memory.max").read_text()) - int((folder / "memory.current").read_text())]
    except (OSError, ValueError):  # not there, or "max"
        return []
