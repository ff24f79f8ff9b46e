"""A run goes on with the settings that it began with; a second job in its folder is not the same run.

A sweep whose jobs share one `checkpoint.save_dir` would take the first job's checkpoint for its own, train nothing and end
well.
"""

from typing import List, Tuple

from fairseq_birq.errors import UserError

# What may differ: how long, how fast, how often, where; all else of these groups decides what is learned.
FREE = {
    "optimizer": {"lr", "tpu", "fp16_adam_stats"},
    "optimization": {"max_update", "max_epoch", "stop_time_hours", "update_freq", "stop_min_lr", "skip_remainder_batch"},
    "lr_scheduler": {"total_num_update", "max_update", "lr", "stage_updates"},
    "model": {"block_mb", "compile_layers", "data"},
    "model.encoder": {"checkpoint_activations"},
    "model.targets.label_file": {"path"},
    "criterion": {"log_grad_every", "collapse_min_perplexity", "collapse_patience", "collapse_action"},
}
WHOLE = {"criterion.weights", "criterion.warmup_updates", "criterion.start_updates", "task.corpora"}  # their keys are the user's
GROUPS = ("model", "criterion", "optimizer", "optimization", "lr_scheduler", "ema")
SINGLE = {  # of groups in which all else may differ
    "common": ("seed",),
    "dataset": ("train_subset",),
    "task": ("labels", "sample_rate", "max_seconds", "min_seconds", "crop_seed", "corpora", "sampling_alpha", "speeds"),
}
LOGGED = ("task", "dataset")  # groups whose other differences are said, beside those of GROUPS
EQUAL = [{"adam", "birq_adamw"}]  # two names of what computes the same
# Null says nothing: a run that goes on needs the file no more.
NULL_IS_ANY = {"model.pretrained_path", "model.initialized_from", "model.target_encoder_path"}


def check_same_settings(before: dict, now: dict, folder: str) -> None:
    """Raises UserError where a checkpoint's settings are not those of the run that would go on from it.

    Args:
        before, now: whole configurations as plain dicts. A key that only one of them has is of another version of this
            package or of fairseq and is not compared.
        folder: of the checkpoint.
    """
    different = compare_settings(before, now)[0]
    if different:
        raise UserError(
            f"{folder} holds a run with other settings: {first_of(different)}. Give this job a folder of its own (in a sweep "
            "checkpoint.save_dir=$PWD/runs/sweep/${hydra:job.num}, in single quotes), or set task.resume=changed to go on "
            "from that run with the new settings"
        )


def compare_settings(before: dict, now: dict) -> Tuple[List[str], List[str]]:
    """`path.key 1 -> 2` for each difference: of settings that must stay as they were, and of those that may differ."""
    before, now = _without_unused_targets(before), _without_unused_targets(now)
    fixed = [line for group in GROUPS for line in _differences(before.get(group), now.get(group), group, FREE)]
    every = [line for group in (*GROUPS, *LOGGED) for line in _differences(before.get(group), now.get(group), group, {})]
    for group, keys in SINGLE.items():
        parts = [{key: value for key, value in (cfg.get(group) or {}).items() if key in keys} for cfg in (before, now)]
        fixed += _differences(*parts, group, {})
    return fixed, [line for line in every if line not in fixed]


def _without_unused_targets(cfg: dict) -> dict:
    """Without the settings of target sources that `model.targets.use` does not name: recipes list other choices for it."""
    model = cfg.get("model") or {}
    targets = model.get("targets")
    if not targets or "use" not in targets:
        return cfg
    used = {name: value for name, value in targets.items() if not isinstance(value, dict) or name in targets["use"]}
    return {**cfg, "model": {**model, "targets": used}}


def first_of(lines: List[str], count: int = 5) -> str:
    return "; ".join(lines[:count]) + ("; ..." if len(lines) > count else "")


def _differences(before, now, path: str, free: dict) -> List[str]:
    if isinstance(before, dict) and isinstance(now, dict) and path not in WHOLE:
        keys = sorted((before.keys() & now.keys()) - free.get(path, set()), key=str)
        return [line for key in keys for line in _differences(before[key], now[key], f"{path}.{key}", free)]
    unknown = path in NULL_IS_ANY and (before is None or now is None)
    same = _plain(before) == _plain(now) or any({str(before), str(now)} <= names for names in EQUAL)
    return [] if unknown or same else [f"{path} {before} -> {now}"]


def _plain(value):
    """Numbers and choices as texts, so that 1 and 1.0, or a choice and its name, are the same."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return float(value)
