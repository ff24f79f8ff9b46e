"""Settings of fairseq that compose and start, and then end a run or spoil it."""

import shutil
from typing import List, Optional

from fairseq_birq.checkpoint import load_checkpoint
from fairseq_birq.data.dataset import WAVEFORM_DTYPE
from fairseq_birq.errors import UserError
from fairseq_birq.patches.schedule import schedule_problems
from fairseq_birq.patches.settings import contradictions, harmful_settings
from fairseq_birq.tools.doctor.checks import Check, ok, problem, warning
from fairseq_birq.tools.doctor.launch import num_gpus

MIB = 1 << 20
SHARED_MEMORY = "/dev/shm"
PREFETCHED = 2  # batches of each worker, as torch's DataLoader has it
BYTES_PER_SAMPLE = WAVEFORM_DTYPE.itemsize + 1  # with the padding mask
NEEDS_ALL_GRADIENTS = ("c10d", "pytorch_ddp")  # `distributed_training.ddp_backend`
ROUNDS_AWAY = {"memory_efficient_bf16": 2.0**-9, "memory_efficient_fp16": 2.0**-12}  # a step this small, relative to the weight


def check_settings(cfg) -> List[Check]:
    """amp, asynchronous checkpoints, half-precision weights, the wrapper of several processes, and the workers' memory."""
    checks = [problem("settings", sentence) for sentence in harmful_settings(cfg) + schedule_problems(cfg)]
    checks += [warning("settings", sentence) for sentence in contradictions(cfg)]
    checks += _check_sample_rate(cfg)
    checks += _check_half_precision_weights(cfg)
    checks += _check_wrapper(cfg)
    found = shared_memory_bytes()
    return checks + ([] if found is None else check_shared_memory(cfg, found))


def _check_sample_rate(cfg) -> List[Check]:
    """The task resamples to its rate, and the frontend's windows and hops count samples of the model's."""
    wanted, source = _value(cfg, "model.frontend.sample_rate"), "`model.frontend.sample_rate`"
    path = _value(cfg, "model.pretrained_path")
    if path and _value(cfg, "model._name") == "birq_ctc":
        try:
            wanted, source = load_checkpoint(path)["cfg"]["model"]["frontend"]["sample_rate"], f"that of {path}"
        except (UserError, LookupError, TypeError):
            return []  # the dry run says what is wrong with the checkpoint
    ours = _value(cfg, "task.sample_rate")
    if None in (wanted, ours) or wanted == ours:
        return []
    return [problem("sample rate", f"`task.sample_rate` is {ours}, but {source} is {wanted}: make them equal")]


def _check_half_precision_weights(cfg) -> List[Check]:
    """fairseq's memory_efficient optimizers have no float32 copy: a step below half a unit of the weight's last digit is lost."""
    rate = max(cfg.optimization.lr)
    checks = []
    for key, relative in ROUNDS_AWAY.items():
        if cfg.common[key] and rate < relative:
            text = (
                f"common.{key} trains rounded weights: a step of optimization.lr, {rate:g}, does not change a weight above "
                f"{rate / relative:.2g}, nor do the smaller steps of warm-up and decay change smaller ones"
            )
            checks.append(warning("precision", f"{text}. common.bf16=true alone keeps float32 copies, 8 bytes a parameter more"))
    return checks


def _check_wrapper(cfg) -> List[Check]:
    """Parameters without a gradient, under the wrapper that waits for the gradient of every one: the second update stops."""
    distributed = cfg.distributed_training
    waits = distributed.ddp_backend in NEEDS_ALL_GRADIENTS and not distributed.find_unused_parameters
    if distributed.distributed_world_size < 2 or not waits:
        return []
    reasons = {
        "model.encoder.layer_dropout": "skipped layers",
        "model.freeze_encoder_updates": "the frozen encoder",
    }
    return [
        problem(
            "processes",
            f"{why} (`{key}`) get no gradient, and distributed_training.ddp_backend={distributed.ddp_backend} waits for it: "
            "set ddp_backend=legacy_ddp, or find_unused_parameters=true",
        )
        for key, why in reasons.items()
        if (_value(cfg, key) or 0) > 0
    ]


def _value(cfg, key):
    for name in key.split("."):
        cfg = cfg[name] if hasattr(cfg, "keys") and name in cfg else None
    return cfg


def shared_memory_bytes() -> Optional[int]:
    """What is free where workers leave their batches; None where the system has no such place."""
    try:
        return shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        return None


def check_shared_memory(cfg, free: int) -> List[Check]:
    """Whether the batches that wait for training fit into /dev/shm; a worker that finds it full dies of a bus error."""
    dataset, gpus = cfg.dataset, num_gpus(cfg)
    if not dataset.num_workers or not dataset.max_tokens:
        return []
    processes = min(gpus or cfg.distributed_training.distributed_world_size, cfg.distributed_training.distributed_world_size)
    waiting = dataset.num_workers * PREFETCHED + (0 if gpus else dataset.data_buffer_size)  # a GPU's are copied to pinned memory
    needed = processes * waiting * dataset.max_tokens * BYTES_PER_SAMPLE
    of = f"{waiting} batches" if processes == 1 else f"{waiting} batches for each of {processes} processes"
    text = f"{of} wait in {SHARED_MEMORY}, up to {needed / MIB:.0f} MiB, and {free / MIB:.0f} MiB are free"
    if needed > free:
        advice = "make it larger (docker run --shm-size), or lower dataset.num_workers or dataset.max_tokens"
        return [problem("workers", f"{text}: {advice}")]
    return [ok("workers", text)]
