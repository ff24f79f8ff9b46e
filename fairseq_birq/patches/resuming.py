"""Going on from the right checkpoint, or saying why not.

fairseq starts over without a word where it finds no checkpoint, dies where the newest one is damaged, and goes wrong
in the data where the number of processes has changed.
"""

import functools
import logging
import math
import os

from fairseq.distributed import utils as distributed_utils
from omegaconf import OmegaConf

from fairseq_birq import patches
from fairseq_birq.errors import UserError, reports_user_errors
from fairseq_birq.patches import loading
from fairseq_birq.patches.first_checkpoint import LAST, goes_on, going_on, named_first
from fairseq_birq.patches.run_folder import settle
from fairseq_birq.patches.run_state import RunState, run_of
from fairseq_birq.patches.same_settings import check_same_settings, compare_settings, first_of
from fairseq_birq.patches.settings import check_settings
from fairseq_birq.patches.trainer import make_careful

logger = logging.getLogger(__name__)


def resuming_carefully(load_checkpoint):
    """fairseq's `load_checkpoint`, with which its command begins every run: ours begin with `begin_run`."""

    @functools.wraps(load_checkpoint)
    def begin_ours_carefully(cfg, trainer, **passthrough_args):
        RunState.in_progress = run_of(trainer.task)
        if RunState.in_progress is None:
            return load_checkpoint(cfg, trainer, **passthrough_args)
        return begin_run(load_checkpoint, cfg, trainer, **passthrough_args)

    return begin_ours_carefully


@reports_user_errors
def begin_run(load_checkpoint, cfg, trainer, **passthrough_args):
    """What fairseq's `load_checkpoint` gives; afterwards the run skips bad updates, and leaves when asked.

    Raises:
        UserError: a setting that does harm, or the run could not be resumed, or not as `task.resume` says.
    """
    check_settings(trainer.cfg)
    check_folder(cfg)
    make_careful(trainer)
    loaded = cfg if trainer.checkpoint_suffix else choose_checkpoint(cfg, trainer)
    result = load_checkpoint(loaded, trainer, **passthrough_args)
    trainer.task.check_trainer(trainer)
    updates, wanted = trainer.get_num_updates(), trainer.cfg.optimization.max_update
    if wanted and updates >= wanted:
        logger.info(f"the run in {cfg.save_dir} has had its {updates} updates; raise `optimization.max_update` to go on")
        end_before_training(trainer)
    trainer.task.run.begin(trainer.task.cfg.max_bad_updates, cfg.save_dir, trainer.data_parallel_rank)
    patches.install()  # now the module of fairseq's command is there, too
    return result


def end_before_training(trainer) -> None:
    """fairseq's loop over epochs ends before the first one: its command ends well, and a sweep goes on with its next job.

    An exit would end a whole sweep at the first job that is complete.
    """
    trainer.cfg.optimization.stop_min_lr = math.inf


def check_folder(cfg) -> None:
    """Raises UserError for a folder that hydra's working directory decides."""
    if not os.path.isabs(cfg.save_dir):
        raise UserError(
            f"`checkpoint.save_dir` is {cfg.save_dir!r}, a relative path. hydra runs every start in a new directory "
            f"(this one in {os.getcwd()}), so the run would start over where you mean to resume it: give the whole path, "
            f"checkpoint.save_dir=$PWD/{cfg.save_dir}"
        )


def choose_checkpoint(cfg, trainer):
    """The settings `checkpoint` with which fairseq loads what this start begins or goes on with; says what that is.

    Raises:
        UserError: as in `settle`, `check_must`, `goes_on`, `named_first` and `check_found`.
    """
    found = on_first_process(trainer, lambda: settle(cfg.save_dir))
    check_must(cfg, trainer, found)
    own = goes_on(cfg, found)
    first = None if own and found else named_first(cfg)
    if first:
        logger.info(f"the run begins with {first}")
        return cfg
    check_found(cfg, trainer, found)
    trainer.written_by = found and found["processes"]
    return going_on(cfg)


def check_must(cfg, trainer, found) -> None:
    """Raises UserError where the folder has no checkpoint and `task.resume` is must."""
    if found is None and trainer.task.cfg.resume == "must":
        raise UserError(
            f"`task.resume` is must, but {cfg.save_dir} holds no checkpoint. Look for the run's folder "
            "(`checkpoint.save_dir`), or set task.resume=auto to start a new run"
        )


def check_found(cfg, trainer, found) -> None:
    """Say what the run goes on from.

    Args:
        found: see `settle`; None where the run's folder has no checkpoint.

    Raises:
        UserError: it is of a run with other settings.
    """
    if found is None:
        logger.info(f"{cfg.save_dir} holds no checkpoint: a new run starts (task.resume=must would stop here)")
        return
    check_settings_of(found["cfg"], trainer, cfg.save_dir)
    begun = "" if cfg.restore_file == LAST else f", not again from {cfg.restore_file}, with which this run began"
    logger.info(f"{cfg.save_dir}/{LAST}: going on after {found['updates']} updates{begun}")
    before, now = found["processes"], trainer.data_parallel_world_size
    if before != now:
        logger.warning(
            f"the checkpoint was written by {before} process(es), this run has {now}. What differs: an update has "
            f"{now} batches x update_freq instead of {before} (optimization.update_freq can make up for it), sums are made "
            f"in another order, dropout differs, and up to {now - 1} batches of this epoch may come twice. Masks, crops "
            "and labels of an utterance stay, and the schedule goes on counting updates."
        )


def check_settings_of(before: dict, trainer, save_dir: str) -> None:
    """Say which settings differ from those that wrote the checkpoint.

    Raises:
        UserError: one that decides what is learned, and `task.resume` is not "changed".
    """
    now = OmegaConf.to_container(trainer.cfg, resolve=True, enum_to_str=True)
    if trainer.task.cfg.resume != "changed":
        check_same_settings(before, now, save_dir)
    fixed, free = compare_settings(before, now)
    if fixed or free:
        logger.info(f"settings that differ from those before: {first_of(fixed + free, 20)}")


def on_first_process(trainer, function):
    """What `function` returns in the first process, in all of them.

    Raises:
        UserError: in all processes, when the first one raised it.
    """
    answer = {}
    if trainer.data_parallel_rank == 0:
        try:
            answer = {"result": function()}
        except UserError as error:
            answer = {"error": str(error)}
    if trainer.data_parallel_world_size > 1:
        group, device = trainer.data_parallel_process_group, trainer.device
        with loading.plain_values_only():
            answer = distributed_utils.broadcast_object(answer, src_rank=0, group=group, dist_device=device)
    if "error" in answer:
        raise UserError(answer["error"])
    return answer["result"]
