"""Target updates against the length of the run and its learning-rate schedule."""

from typing import List

from fairseq_birq.tools.doctor.checks import Check, ok, warning


def check_stages(cfg) -> List[Check]:
    """What `model.targets.snapshot.target_updates` come to; nothing for a run without a snapshot."""
    targets = getattr(cfg.model, "targets", None)
    if targets is None or "snapshot" not in targets.use or not targets.snapshot.target_updates:
        return []
    updates, end, checks = list(targets.snapshot.target_updates), cfg.optimization.max_update, []
    late = [update for update in updates if 0 < end <= update]
    if late:
        text = f"model.targets.snapshot.target_updates {late} never come, optimization.max_update is {end}"
        checks.append(warning("stages", f"{text}: train longer, or leave them out"))
    if cfg.lr_scheduler._name != "birq_stages":
        text = f"the learning rate goes on at a target update, as lr_scheduler is {cfg.lr_scheduler._name}"
        checks.append(warning("stages", f"{text}: birq_stages begins anew, or with restart_schedule=false goes on as you wish"))
    if checks:
        return checks
    starts = [0, *updates] + ([end] if end > 0 else [])
    lengths = ", ".join(str(later - earlier) for earlier, later in zip(starts, starts[1:]))
    return [ok("stages", f"{len(updates) + 1} stages, of {lengths} updates" + ("" if end > 0 else " and the rest"))]
