"""The learning rate of Latent-RQ's stages: in every stage linear warm-up and polynomial decay."""

from bisect import bisect_right
from typing import List

from fairseq_birq.config import StageScheduleConfig
from fairseq_birq.errors import UserError
from fairseq_birq.targets.snapshot import checked_target_updates


class StageRates:
    """In every stage fairseq's `polynomial_decay`: linear warm-up to `peak`, then decay.

    Raises:
        UserError: updates or lengths that do not fit together.
    """

    def __init__(self, cfg: StageScheduleConfig, peak: float):
        self.cfg, self.peak = cfg, peak
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
