"""How fairseq logs the curves of `training/disturbance_curves.py`, in both criteria."""

from fairseq.logging import metrics

from fairseq_birq.training.disturbance_curves import curves, pack

__all__ = ["log", "pack"]


def log(sums: dict) -> None:
    for name, value, weight, digits in curves(sums):
        metrics.log_scalar(name, value, weight, round=digits)
