"""Door: the stages of Latent-RQ (PMLR 312:78-93, 2026, section 3): `begin_update`, and learning-rate schedule `birq_stages`.

A stage begins just before the first forward after a target update. So a checkpoint at that very update still holds the
stage before, whole.
"""

from bisect import bisect_right
from typing import List

from fairseq.optim.lr_scheduler import FairseqLRScheduler, register_lr_scheduler

from fairseq_birq.config import StageScheduleConfig
from fairseq_birq.doors.configs import as_fairseq
from fairseq_birq.errors import UserError, reports_user_errors
from fairseq_birq.patches.master_weights import renew_float32_copies
from fairseq_birq.targets.snapshot import checked_target_updates


@register_lr_scheduler("birq_stages", dataclass=as_fairseq(StageScheduleConfig))
class StageSchedule(FairseqLRScheduler):
    """In every stage fairseq's `polynomial_decay`: linear warm-up to the first of `optimization.lr`, then decay.

    Raises:
        UserError: updates or lengths that do not fit together.
    """

    @reports_user_errors
    def __init__(self, cfg: StageScheduleConfig, optimizer):
        super().__init__(cfg, optimizer)
        self.peak = optimizer.get_lr()
        self.target_updates = checked_target_updates(cfg.target_updates, "lr_scheduler.target_updates")
        self.starts = [0, *(cfg.target_updates if cfg.restart_schedule else ())]
        self.lengths = _stage_lengths(cfg, self.starts)

    def lr_at(self, num_updates: int) -> float:
        """Of the update after `num_updates`; a function of that count alone, so it is right after a resume."""
        stage = bisect_right(self.starts, num_updates) - 1
        since, warmup, length = num_updates - self.starts[stage], self.cfg.warmup_updates, self.lengths[stage]
        if warmup > 0 and since <= warmup:
            return since / float(warmup) * self.peak
        if since >= length:
            return self.cfg.end_learning_rate
        remaining = 1 - (since - warmup) / (length - warmup)
        return (self.peak - self.cfg.end_learning_rate) * remaining**self.cfg.power + self.cfg.end_learning_rate

    def step_update(self, num_updates):
        """fairseq calls this after every update, and when a checkpoint was loaded."""
        self.optimizer.set_lr(self.lr_at(num_updates))
        return self.optimizer.get_lr()


def _stage_lengths(cfg, starts) -> List[int]:
    lengths = list(cfg.stage_updates)
    if not lengths:
        ends = [*starts[1:], cfg.total_num_update]
        lengths = [end - start for start, end in zip(starts, ends)]
    lengths = lengths * len(starts) if len(lengths) == 1 else lengths
    if len(lengths) != len(starts):
        raise UserError(
            f"`lr_scheduler.stage_updates` has {len(lengths)} lengths for {len(starts)} stages: give one for all or one each"
        )
    if min(lengths) <= cfg.warmup_updates:
        raise UserError(
            f"`lr_scheduler.warmup_updates` ({cfg.warmup_updates}) must be less than each stage's length, {lengths}: see "
            "`stage_updates`, `target_updates` and `total_num_update`"
        )
    return lengths


def begin_update(model, optimizer, num_updates: int) -> None:
    """Before every update: where a stage of Latent-RQ begins, what its paper lists (PMLR 312:78-93, 2026, section 3) is new.

    The same count again changes nothing. Each piece has a setting that keeps it: `reset_heads` and `reset_optimizer` of
    `model.targets.snapshot`, and `lr_scheduler.restart_schedule`.

    Args:
        model: a `BirqModel`, wrapped for data-parallel training or not.
        optimizer: fairseq's, with or without float32 copies of the parameters.
        num_updates: the updates that the model has had.
    """
    for source in model.renew_targets(num_updates):  # targets: the frozen copy is that of today's encoder
        model.renew_heads(source)  # heads: new random weights
        renew_float32_copies(optimizer)  # and their float32 copies, where fp16 or bf16 training has any
        if model.targets[source].reset_optimizer:
            clear_state(optimizer)  # optimizer: no moments
        # learning rate: `StageSchedule.lr_at` counts from the first update of the stage, without being told


def check_same_stages(model, schedule) -> None:
    """Called once, when fairseq has built both.

    Raises:
        UserError: the learning rate and the targets would begin their stages at different updates.
    """
    if not isinstance(schedule, StageSchedule) or model.staged is None:
        return
    if schedule.target_updates != model.staged.target_updates:
        raise UserError(
            f"`lr_scheduler.target_updates` is {list(schedule.target_updates)}, but `model.targets.snapshot.target_updates` is "
            f"{list(model.staged.target_updates)}: make them equal (`lr_scheduler.restart_schedule: false` switches restarts off)"
        )


def clear_state(optimizer) -> None:
    """The next step is an optimizer's first one: no moments, no step counts."""
    optimizer.optimizer.state.clear()
    for group in optimizer.param_groups:
        group.pop("step", None)  # where apex's fused Adam counts
