"""Settings of a whole run that fairseq takes without a word, and that harm it, mean nothing, or contradict each other."""

import dataclasses
import difflib
import logging
from typing import List

from fairseq.dataclass.configs import FairseqConfig
from omegaconf import OmegaConf

from fairseq_birq.errors import UserError
from fairseq_birq.patches.schedule import schedule_problems

logger = logging.getLogger(__name__)

HARMFUL = {  # settings of fairseq that our tasks refuse: whether a configuration has it, and why
    "common.amp": (
        lambda cfg: cfg.common.amp,
        "fairseq divides its gradients by the loss scale twice, so that hardly any is left: use common.bf16=true, or fp16=true",
    ),
    "common.fp16": (
        lambda cfg: cfg.common.fp16 and cfg.common.bf16,
        "so is `common.bf16`, and a run has one precision: set one of them to false",
    ),
    "checkpoint.write_checkpoints_asynchronously": (
        lambda cfg: cfg.checkpoint.write_checkpoints_asynchronously,
        "fairseq then makes no checkpoint_last.pt, and the run could not go on: leave it out (a save costs its writing alone)",
    ),
}
FROM_FAIRSEQ = {"_name", "job_logging_cfg"}  # what fairseq's command adds to a configuration itself
LENGTHS = ("total_num_update", "max_update")  # of `lr_scheduler`: the update at which the learning rate reaches its end
RATES = ("optimizer", "lr_scheduler")  # groups with an `lr` that is `optimization.lr` unless somebody writes another


def check_settings(cfg) -> None:
    """Raises UserError where a whole configuration has a setting that our tasks refuse; says which two do not agree."""
    sentences = harmful_settings(cfg) + schedule_problems(cfg) + unknown_settings(cfg)
    if sentences:
        raise UserError("; ".join(sentences))
    for sentence in contradictions(cfg):
        logger.warning(sentence)


def harmful_settings(cfg) -> List[str]:
    """A sentence for each setting of a whole configuration that our tasks refuse."""
    return [f"`{key}` is set, but {reason}" for key, (is_set, reason) in HARMFUL.items() if is_set(cfg)]


def unknown_settings(cfg) -> List[str]:
    """A sentence for each key that hydra took with a plus and that nobody reads.

    fairseq itself refuses unknown keys of task, model, criterion, optimizer and schedule.
    """
    groups = {field.name: field.type for field in dataclasses.fields(FairseqConfig)}
    unknown = [(str(key), groups) for key in cfg if key not in groups and key not in FROM_FAIRSEQ]
    for name, kind in groups.items():
        if dataclasses.is_dataclass(kind) and name in cfg and cfg[name] is not None:
            known = [field.name for field in dataclasses.fields(kind)]
            unknown += [(f"{name}.{key}", known) for key in cfg[name] if key not in known and key not in FROM_FAIRSEQ]
    return [f"`{key}` is unknown{nearest(key.rpartition('.')[2], known)}" for key, known in unknown]


def nearest(name: str, known) -> str:
    """The end of a sentence: the known name that `name` may have meant, if there is one."""
    close = difflib.get_close_matches(name, [str(key) for key in known], n=1)
    return f"; did you mean `{close[0]}`?" if close else ""


def contradictions(cfg) -> List[str]:
    """A sentence for each two settings that say one thing differently, and with which a run would still train."""
    found, updates = [], cfg.optimization.max_update
    for key in LENGTHS:
        end = _value(cfg, "lr_scheduler", key)
        if updates > 0 and isinstance(end, (int, float)) and end > 0 and end != updates:
            becomes = "has its last value before the run ends" if end < updates else "does not reach its last value"
            found.append(
                f"`lr_scheduler.{key}` is {end:g}, but `optimization.max_update` is {updates}: the learning rate {becomes}; "
                "make them equal unless you mean that"
            )
    for group in RATES:
        rate = _value(cfg, group, "lr")
        if rate is not None and _as_list(rate) != _as_list(cfg.optimization.lr):
            found.append(
                f"`{group}.lr` is {rate}, but `optimization.lr` is {cfg.optimization.lr}: set `optimization.lr`, which is "
                "the learning rate of all, and leave the other one out"
            )
    labels = _value(cfg, "task", "frame_labels"), _value(cfg, "model", "targets", "label_file", "path")
    if None not in labels and labels[0] != labels[1]:
        found.append(f"`task.frame_labels` is {labels[0]}, so that `model.targets.label_file.path`, {labels[1]}, is not read")
    return found


def _value(cfg, *keys):
    for key in keys:
        found = OmegaConf.is_config(cfg) and key in cfg and not OmegaConf.is_missing(cfg, key)
        cfg = cfg[key] if found else None
    return cfg


def _as_list(value):
    return [float(one) for one in value] if hasattr(value, "__iter__") and not isinstance(value, str) else [float(value)]
