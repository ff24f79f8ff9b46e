"""A checkpoint is data for fairseq too, never code.

fairseq calls `torch.load` without `weights_only`. With torch before 2.6, or TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD set, a
hostile `checkpoint.restore_file` or `--path` would run code. From torch 2.6 on, the settings that rank 0 sends to the
others on resume are refused instead, and several processes cannot resume.
"""

import functools
import os

import torch
from fairseq import checkpoint_utils
from fairseq.distributed import utils as distributed_utils
from omegaconf.errors import OmegaConfBaseException

from fairseq_birq.checkpoint import MODELS, check_is_ours, checkpoint_files, load_checkpoint
from fairseq_birq.errors import UserError, reports_user_errors
from fairseq_birq.patches.replacing import replaced
from fairseq_birq.patches.run_state import run_of

_fairseqs_load = checkpoint_utils.load_checkpoint_to_cpu


def plain_values_only():
    """Inside, fairseq reads checkpoints with `load`, and the processes of a run trust each other's settings."""
    return replaced((checkpoint_utils, "load_checkpoint_to_cpu", load), (distributed_utils, "_broadcast_object_slow", broadcast))


def of_our_models(load_models):
    """fairseq's `load_model_ensemble_and_task`, by which its commands read `--path`: careful with our tasks and models."""

    @functools.wraps(load_models)
    def load_ours_carefully(filenames, arg_overrides=None, task=None, *args, **kwargs):
        ours = run_of(task) is not None if task is not None else any(map(_is_of_our_model, filenames))
        if not ours:
            return load_models(filenames, arg_overrides, task, *args, **kwargs)
        with plain_values_only():
            _require_files(filenames)
            return load_models(filenames, arg_overrides, task, *args, **kwargs)

    return load_ours_carefully


@reports_user_errors
def _require_files(paths) -> None:
    """Raises UserError where there is no file: fairseq has a traceback for that."""
    for path in paths:
        if not os.path.exists(path):
            raise UserError(f"checkpoint {path} does not exist")


def _is_of_our_model(path) -> bool:
    """Whether a file is a checkpoint of this package's; those hold plain values only, so that a look at one is safe."""
    try:
        return load_checkpoint(path)["cfg"]["model"]["_name"] in MODELS
    except (UserError, LookupError, TypeError):
        return False


@reports_user_errors
def load(path, arg_overrides=None, load_on_all_ranks=False):
    """fairseq's `load_checkpoint_to_cpu`, for local files and runs of fairseq2; classes that the user told torch to trust are
    let in.

    Raises:
        UserError: as in `load_checkpoint`, or it is no checkpoint of fairseq.
    """
    content = load_checkpoint(path, allowed=torch.serialization.get_safe_globals())
    check_is_ours(path, content)
    with_targets_of_model(content)
    try:
        with replaced((torch, "load", lambda *args, **kwargs: content)):
            return _fairseqs_load(str(checkpoint_files(path)[0]), arg_overrides, load_on_all_ranks)
    except (LookupError, TypeError, AttributeError, OmegaConfBaseException) as error:
        raise UserError(f"checkpoint {path} lacks what fairseq wants of a checkpoint: {error!r}") from None


def with_targets_of_model(content) -> None:
    """Give the moving average of the weights (`ema.store_ema`) the model's targets, where earlier versions averaged codebooks."""
    weights, averaged = content.get("model"), (content.get("extra_state") or {}).get("ema")
    if not averaged:
        return
    states = {key: value for key, value in weights.items() if isinstance(value, dict) and "fingerprint" in value}
    if any(averaged.get(key, value).get("fingerprint") != value["fingerprint"] for key, value in states.items()):
        averaged.update({key: value for key, value in weights.items() if key.startswith("targets.")})


def broadcast(obj, src_rank, group, dist_device):
    """fairseq's `_broadcast_object_slow`: what a process of the same run sends is trusted, as by torch's own call."""
    box = [obj]
    torch.distributed.broadcast_object_list(box, src=src_rank, group=group, device=dist_device)
    return box[0]
