"""Checkpoints are whole files or not there: written beside their place and moved into it.

fairseq writes the newest checkpoint this way, but copies it over `checkpoint_last.pt` in place, so that a full disk
leaves half a file where the last good one was. Importing this module replaces both steps.
"""

import logging
import os
import shutil
from contextlib import contextmanager

import torch
from fairseq import checkpoint_utils
from fairseq.file_io import PathManager

logger = logging.getLogger(__name__)


@contextmanager
def whole_file(filename):
    """Give a temporary path beside `filename` and move it there at the end; leave nothing behind on failure.

    Raises:
        SystemExit: the disk is full or refuses the file; the reason is logged, and `filename` is as it was.
    """
    partial = f"{filename}.tmp"
    try:
        yield partial
        os.replace(partial, filename)
    except (OSError, RuntimeError) as error:
        logger.error(
            f"could not write checkpoint {filename}: {error}. Earlier checkpoints are unharmed: make room and run the "
            "same command again to go on from the last one."
        )
        raise SystemExit(2) from None
    finally:
        if os.path.exists(partial):
            os.remove(partial)


def save(obj, filename, async_write=False):
    """fairseq's `torch_persistent_save`, for local files."""
    with whole_file(filename) as partial, open(partial, "wb") as file:
        torch.save(obj, file)
        file.flush()
        os.fsync(file.fileno())


def copy(src_path, dst_path, overwrite=False):
    """fairseq's `PathManager.copy`, for local files."""
    with whole_file(dst_path) as partial:
        shutil.copyfile(src_path, partial)
    return True


checkpoint_utils.torch_persistent_save = save
PathManager.copy = staticmethod(copy)
