"""Checkpoints are whole files or not there: written beside their place and moved into it.

fairseq writes the newest checkpoint this way, but copies it over `checkpoint_last.pt` in place, so that a full disk
leaves half a file where the last good one was. Here `checkpoint_last.pt` and `checkpoint_best.pt` are further names of
the file that was written: hard links, which cost neither time nor room.

No run ever writes into a file that is there, so that no name changes with another. A `cp` onto one of the names would:
bring an older checkpoint back with `cp --remove-destination`.
"""

import functools
import logging
import os
import shutil
from contextlib import contextmanager

import torch
from fairseq import checkpoint_utils
from fairseq.file_io import PathManager

from fairseq_birq.data.files import moved_into_place
from fairseq_birq.patches.replacing import replaced
from fairseq_birq.patches.run_state import run_of

logger = logging.getLogger(__name__)


def whole_files():
    """Inside, fairseq writes and copies checkpoints with `save` and `copy`."""
    return replaced((checkpoint_utils, "torch_persistent_save", save), (PathManager, "copy", staticmethod(copy)))


def saving_whole_files(save_checkpoint):
    """fairseq's `save_checkpoint`, with whole files where the trainer is of a task of ours."""

    @functools.wraps(save_checkpoint)
    def save_ours_whole(cfg, trainer, *args, **kwargs):
        if run_of(trainer.task) is None:
            return save_checkpoint(cfg, trainer, *args, **kwargs)
        with whole_files():
            return save_checkpoint(cfg, trainer, *args, **kwargs)

    return save_ours_whole


@contextmanager
def whole_file(filename):
    """Give a temporary path beside `filename` and move it there at the end; leave nothing behind on failure.

    Raises:
        SystemExit: the disk is full or refuses the file; the reason is logged, and `filename` is as it was.
    """
    try:
        with moved_into_place(filename, f"{filename}.tmp") as partial:
            yield partial
    except (OSError, RuntimeError) as error:
        logger.error(
            f"could not write checkpoint {filename}: {error}. Earlier checkpoints are unharmed: make room and run the "
            "same command again to go on from the last one."
        )
        raise SystemExit(2) from None


def save(obj, filename, async_write=False):
    """fairseq's `torch_persistent_save`, for local files; `resuming` refuses runs that would write asynchronously."""
    with whole_file(filename) as partial, open(partial, "xb") as file:
        torch.save(obj, file)
        file.flush()
        os.fsync(file.fileno())


def copy(src_path, dst_path, overwrite=False):
    """fairseq's `PathManager.copy`, for local files: a hard link, or a copy where the file system has none."""
    with whole_file(dst_path) as partial:
        try:
            os.link(src_path, partial)
        except OSError:
            shutil.copyfile(src_path, partial)
    return True
