"""Metrics in groups on TensorBoard and Weights & Biases; fairseq's own log keeps their plain names.

Both sort curves by what stands before a slash, and fairseq's wrappers (`fairseq/logging/progress_bar.py`) send names
without one: dozens of groups of one curve each.
"""

import functools
import re

from fairseq.logging import progress_bar

_GROUPS = {  # the first that matches the whole name
    "optimizer": r"lr(_.*)?|gnorm|clip|loss_scale|gradient_norm_.*",
    "loss": r"(best_)?loss(_.*)?",
    "prediction": r"accuracy_.*|sampled_nearest_.*",
    "codes": r"(perplexity|top_share|used_share|label_entropy|mean_label_entropy|churn|nmi)_.*|stage",
    "errors": r"wer|cer",
    "probes": r"probe_.*",
    "data": r"mask_coverage|padding_share|bad_audio|bad_updates|too_long_targets|bsz|wpb",
    "speed": r"wps|ups|train_wall|wall|gb_free|gb_total|audio_seconds_per_second",
}
_WRAPPERS = (
    (progress_bar.TensorboardProgressBarWrapper, "_log_to_tensorboard"),
    (progress_bar.WandBProgressBarWrapper, "_log_to_wandb"),
)


def grouped(name: str) -> str:
    """`codes/perplexity_raw_input` for `perplexity_raw_input`; a name of no group stays as it is."""
    group = next((group for group, pattern in _GROUPS.items() if re.fullmatch(pattern, name)), None)
    return name if group is None else f"{group}/{name}"


def group_metrics() -> None:
    """From now on fairseq's TensorBoard and W&B wrappers send grouped names. Harmless when called again."""
    for wrapper, method in _WRAPPERS:
        send = getattr(wrapper, method)
        if not hasattr(send, "sends_groups"):
            setattr(wrapper, method, _with_groups(send))


def _with_groups(send):
    @functools.wraps(send)
    def sending(self, stats, tag=None, step=None):
        return send(self, {grouped(name): value for name, value in stats.items()}, tag, step)

    sending.sends_groups = True
    return sending
