"""A checkpoint is data for fairseq too, never code.

fairseq calls `torch.load` without `weights_only`. With torch before 2.6, or TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD set, a
hostile `checkpoint.restore_file` or `--path` would run code. From torch 2.6 on, the settings that rank 0 sends to the
others on resume are refused instead, and several processes cannot resume. Importing this module replaces both calls.
"""

from contextlib import contextmanager

import torch
from fairseq import checkpoint_utils
from fairseq.distributed import utils as distributed_utils
from omegaconf.errors import OmegaConfBaseException

from fairseq_birq.checkpoint import load_checkpoint
from fairseq_birq.errors import UserError, reports_user_errors

_fairseqs_load = checkpoint_utils.load_checkpoint_to_cpu


@reports_user_errors
def load(path, arg_overrides=None, load_on_all_ranks=False):
    """fairseq's `load_checkpoint_to_cpu`, for local files; classes that the user told torch to trust are let in.

    Raises:
        UserError: as in `load_checkpoint`, or it is no checkpoint of fairseq.
    """
    content = load_checkpoint(path, allowed=torch.serialization.get_safe_globals())
    try:
        with _torch_load_gives(content):
            return _fairseqs_load(path, arg_overrides, load_on_all_ranks)
    except (LookupError, TypeError, AttributeError, OmegaConfBaseException) as error:
        raise UserError(f"checkpoint {path} lacks what fairseq wants of a checkpoint: {error!r}") from None


@contextmanager
def _torch_load_gives(content):
    before, torch.load = torch.load, lambda *args, **kwargs: content
    try:
        yield
    finally:
        torch.load = before


def broadcast(obj, src_rank, group, dist_device):
    """fairseq's `_broadcast_object_slow`: what a process of the same run sends is trusted, as by torch's own call."""
    box = [obj]
    torch.distributed.broadcast_object_list(box, src=src_rank, group=group, device=dist_device)
    return box[0]


checkpoint_utils.load_checkpoint_to_cpu = load
distributed_utils._broadcast_object_slow = broadcast
