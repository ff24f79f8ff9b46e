"""Door: the stages of Latent-RQ (PMLR 312:78-93, 2026, section 3): `begin_update`, and learning-rate schedule `birq_stages`.

A stage begins just before the first forward after a target update. So a checkpoint at that very update still holds the
stage before, whole.
"""

from fairseq.optim.lr_scheduler import FairseqLRScheduler, register_lr_scheduler

from fairseq_birq.config import StageScheduleConfig
from fairseq_birq.doors.configs import as_fairseq
from fairseq_birq.errors import reports_user_errors
from fairseq_birq.patches.master_weights import renew_float32_copies
from fairseq_birq.training.stage_schedule import StageRates
from fairseq_birq.training.stages import begin_stages, check_same_updates


@register_lr_scheduler("birq_stages", dataclass=as_fairseq(StageScheduleConfig))
class StageSchedule(FairseqLRScheduler):
    """In every stage fairseq's `polynomial_decay`: linear warm-up to the first of `optimization.lr`, then decay.

    Raises:
        UserError: updates or lengths that do not fit together.
    """

    @reports_user_errors
    def __init__(self, cfg: StageScheduleConfig, optimizer):
        super().__init__(cfg, optimizer)
        self.rates = StageRates(cfg, optimizer.get_lr())
        self.target_updates = self.rates.target_updates

    def lr_at(self, num_updates: int) -> float:
        """Of the update after `num_updates`; a function of that count alone, so it is right after a resume."""
        return self.rates.lr_at(num_updates)

    def step_update(self, num_updates):
        """fairseq calls this after every update, and when a checkpoint was loaded."""
        self.optimizer.set_lr(self.lr_at(num_updates))
        return self.optimizer.get_lr()


def begin_update(model, optimizer, num_updates: int) -> None:
    """Before every update: where a stage of Latent-RQ begins, what its paper lists (PMLR 312:78-93, 2026, section 3) is new.

    The same count again changes nothing. Each piece has a setting that keeps it: `reset_heads` and `reset_optimizer` of
    `model.targets.snapshot`, and `lr_scheduler.restart_schedule`.

    Args:
        model: a `BirqModel`, wrapped for data-parallel training or not.
        optimizer: fairseq's, with or without float32 copies of the parameters.
        num_updates: the updates that the model has had.
    """
    begin_stages(model, optimizer.optimizer, num_updates, lambda: renew_float32_copies(optimizer))


def check_same_stages(model, schedule) -> None:
    """Called once, when fairseq has built both.

    Raises:
        UserError: the learning rate and the targets would begin their stages at different updates.
    """
    if isinstance(schedule, StageSchedule):
        check_same_updates(model, schedule.target_updates)
