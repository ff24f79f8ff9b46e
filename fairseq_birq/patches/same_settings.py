"""A run goes on with the settings that it began with; a second job in its folder is not the same run.

A sweep whose jobs share one `checkpoint.save_dir` would take the first job's checkpoint for its own, train nothing and end
well.
"""

from typing import List

from fairseq_birq.errors import UserError

# What may differ: how long, how fast, how often, where; all else of these groups decides what is learned.
FREE = {
    "optimizer": {"lr", "tpu", "fp16_adam_stats"},
    "optimization": {"max_update", "max_epoch", "stop_time_hours", "update_freq", "stop_min_lr", "skip_remainder_batch"},
    "lr_scheduler": {"total_num_update", "max_update", "lr", "stage_updates"},
    "model": {"pretrained_path", "target_encoder_path", "initialized_from", "block_mb", "data"},
    "model.encoder": {"checkpoint_activations"},
    "model.targets.label_file": {"path"},
    "criterion": {"log_grad_every", "collapse_min_perplexity", "collapse_patience", "collapse_action"},
}
WHOLE = {"criterion.weights", "criterion.warmup_updates", "criterion.start_updates"}  # whose keys are the user's
GROUPS = ("model", "criterion", "optimizer", "optimization", "lr_scheduler")
SEEDS = {"common": ("seed",), "task": ("crop_seed",)}
EQUAL = [{"adam", "birq_adamw"}]  # two names of what computes the same
ABSENT = object()


def check_same_settings(before: dict, now: dict, folder: str) -> None:
    """Raises UserError where a checkpoint's settings are not those of the run that would go on from it.

    Args:
        before, now: whole configurations as plain dicts. A key that only one of them has is of another version of this
            package or of fairseq and is not compared.
        folder: of the checkpoint.
    """
    different = [line for group in GROUPS for line in _differences(before.get(group), now.get(group), group)]
    for group, keys in SEEDS.items():
        parts = [{key: (cfg.get(group) or {}).get(key, ABSENT) for key in keys} for cfg in (before, now)]
        different += _differences(*[{key: value for key, value in part.items() if value is not ABSENT} for part in parts], group)
    if different:
        shown = "; ".join(different[:5]) + ("; ..." if len(different) > 5 else "")
        raise UserError(
            f"{folder} holds a run with other settings: {shown}. Give this job a folder of its own (in a sweep "
            "checkpoint.save_dir=$PWD/runs/sweep/${hydra:job.num}, in single quotes), or set task.resume=changed to go on "
            "from that run with the new settings"
        )


def _differences(before, now, path: str) -> List[str]:
    """`path.key 1 -> 2` for each value that differs."""
    if isinstance(before, dict) and isinstance(now, dict) and path not in WHOLE:
        keys = sorted((before.keys() & now.keys()) - FREE.get(path, set()), key=str)
        return [line for key in keys for line in _differences(before[key], now[key], f"{path}.{key}")]
    same = _plain(before) == _plain(now) or any({str(before), str(now)} <= names for names in EQUAL)
    return [] if same or before is None or now is None else [f"{path} {before} -> {now}"]


def _plain(value):
    """Numbers and choices as texts, so that 1 and 1.0, or a choice and its name, are the same."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return float(value)
