"""`common.user_dir` and `checkpoint.save_dir`: hydra changes the working directory, and disks get full."""

import math
import os
import shutil
from pathlib import Path
from typing import List

from omegaconf import OmegaConf

from fairseq_birq.checkpoint import DamagedCheckpoint, load_checkpoint
from fairseq_birq.errors import UserError
from fairseq_birq.patches.first_checkpoint import LAST, goes_on, named_first
from fairseq_birq.patches.same_settings import check_same_settings
from fairseq_birq.tools.doctor.checks import Check, ok, problem, warning

GIB = 1 << 30


def check_folders(cfg) -> List[Check]:
    """Whether a run would find its user directory and could write its checkpoints, and which checkpoint it goes on from."""
    checks, user_dir, save_dir = [], cfg.common.user_dir, cfg.checkpoint.save_dir
    if not user_dir:
        checks.append(problem("user_dir", "not given: add common.user_dir=$PWD/fairseq_birq"))
    elif not os.path.isabs(user_dir) or not os.path.isdir(user_dir):
        checks.append(problem("user_dir", f"{user_dir} is no absolute path of a folder: common.user_dir=$PWD/fairseq_birq"))
    elif not (Path(user_dir) / "__init__.py").is_file():
        text = f"{user_dir} has no __init__.py, so that no task or model comes from it: common.user_dir=$PWD/fairseq_birq"
        checks.append(problem("user_dir", text))
    if not os.path.isabs(save_dir):
        text = f"{save_dir} is relative to a folder that hydra makes anew for every run, so that nothing resumes"
        return checks + [problem("save_dir", f"{text}: checkpoint.save_dir=$PWD/{save_dir}")]
    existing = _existing(save_dir)
    if not existing.is_dir() or not os.access(str(existing), os.W_OK | os.X_OK):
        return checks + [problem("save_dir", f"{existing} is not a folder that you may write to: choose another one")]
    try:
        begins = _beginning(cfg, Path(save_dir) / LAST)
    except UserError as error:
        return checks + [problem("save_dir", str(error))]
    return checks + [ok("save_dir", f"{save_dir} can be written to; {begins}")]


def _beginning(cfg, last: Path) -> str:
    """What a run begins with, or goes on from; a damaged checkpoint is left to training.

    Raises:
        UserError: the run in the folder has other settings, began differently, or a checkpoint is not there.
    """
    going_on = f"the run goes on from {last}"
    if not last.is_file():
        first = named_first(cfg.checkpoint)
        return f"a new run begins with {first}" if first else "a new run"
    try:
        content = load_checkpoint(last)
        found = {"cfg": content["cfg"], "updates": content["optimizer_history"][-1]["num_updates"]}
    except DamagedCheckpoint:
        return going_on
    except (LookupError, TypeError):
        raise UserError(f"{last} is not a checkpoint of a training run; move it out of `checkpoint.save_dir`") from None
    if not goes_on(cfg.checkpoint, found):
        return f"the run goes back to {named_first(cfg.checkpoint)}"
    if cfg.task.get("resume") != "changed":
        check_same_settings(found["cfg"], _as_in_training(cfg), str(last.parent))
    return going_on


def _as_in_training(cfg) -> dict:
    """The configuration that training will have: fine-tuning takes the encoder's settings from the checkpoint."""
    now = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    if now["model"].get("_name") == "birq_ctc" and now["model"].get("pretrained_path"):
        taken = {"initialized_from": now["model"]["pretrained_path"], "pretrained_path": None}
        kept = {key: value for key, value in now["model"].items() if key not in ("frontend", "encoder")}
        now["model"] = {**kept, **taken}
    return now


def check_disk(cfg, checkpoint_bytes: int) -> List[Check]:
    """Whether the disk has room for all the checkpoints that the run keeps, and the one that is being written."""
    save_dir = cfg.checkpoint.save_dir
    if cfg.checkpoint.no_save or not os.path.isabs(save_dir):
        return []
    kept = kept_checkpoints(cfg)
    free = shutil.disk_usage(str(_existing(save_dir))).free
    each = f"{checkpoint_bytes / GIB:.2g} GiB each, {free / GIB:.1f} GiB free"
    if math.isinf(kept):
        advice = "set checkpoint.no_epoch_checkpoints=true or keep_last_epochs, and keep_interval_updates"
        return [warning("disk", f"the number of checkpoints has no bound, {each}: {advice}")]
    text = f"at most {kept + 1} checkpoint files, {each}"
    if (kept + 1) * checkpoint_bytes > free:
        return [problem("disk", f"{text}: make room, or keep fewer (checkpoint.keep_interval_updates, keep_last_epochs)")]
    return [ok("disk", text)]


def kept_checkpoints(cfg) -> float:
    """How many checkpoint files lie in `save_dir` in the end; infinite where their number is not bounded."""
    checkpoint, optimization = cfg.checkpoint, cfg.optimization
    kept = (not checkpoint.no_last_checkpoints) + (1 + max(0, checkpoint.keep_best_checkpoints))
    if not checkpoint.no_epoch_checkpoints:
        kept += checkpoint.keep_last_epochs if checkpoint.keep_last_epochs > 0 else optimization.max_epoch or math.inf
    if checkpoint.save_interval_updates > 0:
        of_all = optimization.max_update // checkpoint.save_interval_updates if optimization.max_update > 0 else math.inf
        kept += checkpoint.keep_interval_updates if checkpoint.keep_interval_updates > 0 else of_all
    return kept


def _existing(folder):
    return next(path for path in (Path(folder), *Path(folder).parents) if path.exists())
