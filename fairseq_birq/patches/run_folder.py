"""The checkpoints of a run's folder: which is the newest whole one, and what interruptions left behind."""

import logging
import math
import os
import re
from pathlib import Path
from typing import Optional, Tuple

from fairseq_birq.checkpoint import DamagedCheckpoint, load_checkpoint
from fairseq_birq.errors import UserError
from fairseq_birq.patches.saving import copy

logger = logging.getLogger(__name__)

_NAMES = (re.compile(r"checkpoint(\d+)\.pt"), re.compile(r"checkpoint_(\d+)_(\d+)\.pt"))


def settle(save_dir) -> Optional[dict]:
    """Make `checkpoint_last.pt` the newest whole checkpoint of the folder.

    Damaged files are renamed to `*.damaged`, files that a killed process was writing are removed. A numbered checkpoint
    that was written after `checkpoint_last.pt` takes its place: the run was killed between the two.

    Returns:
        "updates" of the checkpoint, "processes" that wrote it, the whole configuration "cfg" of their run, its "place"
        (epoch, updates; the end of an epoch has infinitely many); None where there is no checkpoint.

    Raises:
        UserError: there are checkpoints, but none can be read.
    """
    folder = Path(save_dir)
    last, best = folder / "checkpoint_last.pt", folder / "checkpoint_best.pt"
    for rest in folder.glob("*.pt.tmp"):
        logger.warning(f"removing {rest}: a checkpoint that was being written when the run was killed")
        rest.unlink()
    whole = _first_whole([last])
    whole.update(_first_whole(_numbered_after(last, whole.get(last))))
    if last not in whole:
        whole.update(_first_whole([best]))
    if not whole:
        _check_none_damaged(folder)
        return None
    newest = max(whole, key=lambda path: whole[path]["place"])
    if newest != last:
        logger.warning(f"going on from {newest}, the newest whole checkpoint: it becomes {last.name}")
        copy(newest, last)
    return whole[newest]


def _check_none_damaged(folder: Path) -> None:
    damaged = sorted(map(str, folder.glob("*.damaged")))
    if damaged:
        raise UserError(
            f"{folder} holds checkpoints, but none can be read: {', '.join(damaged)}. Bring one back from a copy, or set "
            "another `checkpoint.save_dir` to start anew"
        )


def _first_whole(paths) -> dict:
    """{path: what `settle` returns} of the first one that can be read; the damaged ones before it are renamed."""
    for path in filter(Path.exists, paths):
        try:
            return {path: _summary(load_checkpoint(path), path)}
        except DamagedCheckpoint as error:
            logger.warning(f"{error}. It is kept as {path.name}.damaged")
            os.replace(path, f"{path}.damaged")
    return {}


def _summary(content, path) -> dict:
    try:
        iterator, updates = content["extra_state"]["train_iterator"], content["optimizer_history"][-1]["num_updates"]
        cfg = content["cfg"]
        processes = cfg["distributed_training"]["distributed_world_size"]
    except (KeyError, TypeError):
        raise UserError(f"{path} is not a checkpoint of a training run; move it out of `checkpoint.save_dir`") from None
    # fairseq counts the end of an epoch as the start of the next.
    at_end = iterator["iterations_in_epoch"] == 0
    place = (iterator["epoch"] - 1, math.inf) if at_end else (iterator["epoch"], updates)
    return {"updates": updates, "processes": processes, "cfg": cfg, "place": place}


def _numbered_after(last: Path, found: Optional[dict]) -> list:
    """Numbered checkpoints, newest first: all where there is no last one, else those that were written after it."""
    numbered = [(_place_by_name(path.name), path) for path in last.parent.iterdir() if _place_by_name(path.name)]
    if found is not None:
        written = last.stat().st_mtime
        # Both must be newer: who goes back to an older checkpoint copies it over the last one.
        numbered = [pair for pair in numbered if pair[0] > found["place"] and pair[1].stat().st_mtime > written]
    return [path for _, path in sorted(numbered, reverse=True)]


def _place_by_name(name: str) -> Optional[Tuple[int, float]]:
    """(epoch, updates) of `checkpoint3.pt`, the end of an epoch, or of `checkpoint_3_200.pt`; None for other names."""
    end_of_epoch, mid_epoch = (pattern.fullmatch(name) for pattern in _NAMES)
    if end_of_epoch:
        return int(end_of_epoch.group(1)), math.inf
    return (int(mid_epoch.group(1)), int(mid_epoch.group(2))) if mid_epoch else None
