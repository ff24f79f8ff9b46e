"""A stage of Latent-RQ begins (PMLR 312:78-93, 2026, section 3), just before the first forward after a target update.

So a checkpoint at that very update still holds the stage before, whole.
"""

from typing import Callable, Sequence

from fairseq_birq.errors import UserError


def begin_stages(model, optimizer, num_updates: int, heads_are_new: Callable[[], None] = lambda: None) -> None:
    """Before every update: where a stage begins, what the paper lists is new. The same count again changes nothing.

    Each piece has a setting that keeps it: `reset_heads` and `reset_optimizer` of `model.targets.snapshot`, and
    `lr_scheduler.restart_schedule`.

    Args:
        model: a `BirqModel`, wrapped for data-parallel training or not.
        optimizer: torch's.
        num_updates: the updates that the model has had.
        heads_are_new: called when the heads have new weights.
    """
    for source in model.renew_targets(num_updates):  # targets: the frozen copy is that of today's encoder
        model.renew_heads(source)  # heads: new random weights
        heads_are_new()  # and their float32 copies, where fp16 or bf16 training has any
        if model.targets[source].reset_optimizer:
            clear_state(optimizer)  # optimizer: no moments
        # learning rate: `StageRates.lr_at` counts from the first update of the stage, without being told


def clear_state(optimizer) -> None:
    """The next step is an optimizer's first one: no moments, no step counts. optimizer: torch's."""
    optimizer.state.clear()
    for group in optimizer.param_groups:
        group.pop("step", None)  # where apex's fused Adam counts


def check_same_updates(model, target_updates: Sequence[int]) -> None:
    """Raises UserError where learning rate and targets would begin their stages at different updates."""
    if model.staged is None or tuple(target_updates) == model.staged.target_updates:
        return
    raise UserError(
        f"`lr_scheduler.target_updates` is {list(target_updates)}, but `model.targets.snapshot.target_updates` is "
        f"{list(model.staged.target_updates)}: make them equal (`lr_scheduler.restart_schedule: false` switches restarts off)"
    )
