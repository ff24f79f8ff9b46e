"""The checkpoint that a run begins with, where the user names one: `checkpoint.restore_file` and its kin.

fairseq begins with `restore_file` at every start: a run that was stopped and started again would lose all it had done. Ours
begins with it once; its own checkpoints say which one that was.
"""

import copy
import os
from typing import Optional

from fairseq_birq.errors import UserError

LAST = "checkpoint_last.pt"  # fairseq's default of `checkpoint.restore_file`: the newest one of the run
RESETS = ("reset_optimizer", "reset_lr_scheduler", "reset_dataloader", "reset_meters", "optimizer_overrides")
FIRST = ("continue_once", "finetune_from_model")  # fairseq's names of a checkpoint for a folder without one


def goes_on(checkpoint, found: Optional[dict]) -> bool:
    """Whether the run goes on from its own newest checkpoint, rather than from the one that its settings name.

    Args:
        checkpoint: the settings `checkpoint` of this start.
        found: the newest checkpoint of the run's folder, as `run_folder.settle` gives it; None where there is none.

    Raises:
        UserError: the folder has a run that did not begin in this way.
    """
    if checkpoint.restore_file == LAST or found is None:
        return checkpoint.restore_file == LAST
    began = found["cfg"].get("checkpoint") or {}
    if _beginning(began) == _beginning(checkpoint):
        return True
    folder, named = os.path.realpath(checkpoint.save_dir), os.path.realpath(checkpoint.restore_file)
    if os.path.dirname(named) == folder:
        return False  # back to an earlier checkpoint of the same run
    raise UserError(
        f"{checkpoint.save_dir} holds a run of {found['updates']} updates that did not begin with `checkpoint.restore_file`="
        f"{checkpoint.restore_file} and these `checkpoint.reset_...` settings. To go on with that run, start it as it began "
        f"({_written(began)}); to begin a new one, give it a `checkpoint.save_dir` of its own"
    )


def going_on(checkpoint):
    """The settings `checkpoint` with which fairseq goes on from the newest checkpoint of `save_dir`, resetting nothing."""
    if checkpoint.restore_file == LAST:
        return checkpoint
    changed = copy.deepcopy(checkpoint)
    changed.restore_file, changed.optimizer_overrides = LAST, "{}"
    for key in RESETS[:-1]:
        changed[key] = False
    return changed


def named_first(checkpoint) -> Optional[str]:
    """The checkpoint that a new run begins with, if the settings name one.

    Raises:
        UserError: it is not there.
    """
    named = {key: checkpoint.get(key) for key in FIRST}
    if checkpoint.restore_file != LAST:
        named = {"restore_file": checkpoint.restore_file}
    for key, path in named.items():
        if path and not os.path.exists(path):
            raise UserError(
                f"`checkpoint.{key}` is {path}, which does not exist (in {os.getcwd()}); fairseq would start over. Give the "
                "whole path of a checkpoint, or leave the key out"
            )
    return next(filter(None, named.values()), None)


def _beginning(checkpoint) -> tuple:
    place = str(checkpoint.get("restore_file", LAST))
    return (place if place == LAST else os.path.realpath(place), *(str(checkpoint.get(key)) for key in RESETS))


def _written(began) -> str:
    settings = {key: began.get(key) for key in ("restore_file", *RESETS)}
    given = {key: value for key, value in settings.items() if value not in (None, LAST, "{}", False)}
    return " ".join(f"checkpoint.{key}={value}" for key, value in given.items()) or "without `checkpoint.restore_file`"
