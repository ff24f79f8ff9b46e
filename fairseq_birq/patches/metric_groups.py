"""Metrics in groups on TensorBoard and Weights & Biases; fairseq's own log keeps their plain names.

Both sort curves by what stands before a slash, and fairseq's wrappers (`fairseq/logging/progress_bar.py`) send names
without one: dozens of groups of one curve each.
"""

import functools
import re

from fairseq_birq.patches.run_state import RunState

_GROUPS = {  # the first that matches the whole name
    "optimizer": r"lr(_.*)?|gnorm|clip|loss_scale|gradient_norm_.*",
    "loss": r"(best_)?loss(_.*)?",
    "prediction": r"accuracy_.*|sampled_nearest_.*",
    "codes": r"(perplexity|top_share|used_share|label_entropy|mean_label_entropy|churn|nmi)_.*|stage",
    "errors": r"wer|cer",
    "probes": r"probe_.*",
    "data": r"mask_coverage|padding_share|bad_audio|bad_updates|too_long_targets|bsz|wpb",
    "disturbance": r"(disturbed|noise|overlap|reverberation|volume|hidden_bins)_share|(noise|overlap)_snr_db",
    "speed": r"wps|ups|train_wall|wall|gb_free|gb_total|audio_seconds_per_second",
}


def grouped(name: str) -> str:
    """`codes/perplexity_raw_input` for `perplexity_raw_input`; a name of no group stays as it is."""
    group = next((group for group, pattern in _GROUPS.items() if re.fullmatch(pattern, name)), None)
    return name if group is None else f"{group}/{name}"


def sending_groups(send):
    """fairseq's `_log_to_tensorboard` or `_log_to_wandb`, which sends grouped names while a run of ours is in progress."""

    @functools.wraps(send)
    def sending(self, stats, tag=None, step=None):
        if RunState.in_progress is not None:
            stats = {grouped(name): value for name, value in stats.items()}
        return send(self, stats, tag, step)

    return sending
