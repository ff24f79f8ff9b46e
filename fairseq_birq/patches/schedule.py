"""A learning-rate schedule that fairseq would stop at with an assertion: what is wrong with its settings, in a sentence."""

import math
import traceback
from typing import Iterable, List, Optional

import torch
from fairseq.optim import FairseqOptimizer
from fairseq.optim.lr_scheduler import LR_SCHEDULER_REGISTRY, build_lr_scheduler
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

JUDGES_ITSELF = ("birq_stages", "pass_through")  # ours, with sentences of its own, and one that is made by its optimizer


class NoWeights(FairseqOptimizer):
    """An optimizer that a schedule can set the learning rate of."""

    def __init__(self):
        super().__init__(None)
        self._optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)


def schedule_problems(cfg) -> List[str]:
    """A sentence where fairseq cannot make the schedule of a whole configuration, or cannot follow it to its end."""
    name = cfg.lr_scheduler.get("_name") if OmegaConf.is_config(cfg.lr_scheduler) else None
    if name not in LR_SCHEDULER_REGISTRY or name in JUDGES_ITSELF:
        return []
    try:
        settings = OmegaConf.create(OmegaConf.to_container(cfg.lr_scheduler, resolve=True))
        schedule = build_lr_scheduler(settings, NoWeights())
        schedule.step_begin_epoch(1)
        for updates in (0, max(0, cfg.optimization.max_update)):
            schedule.step_update(updates)
    except OmegaConfBaseException:  # an incomplete configuration, which no run has; some of these are ValueErrors
        return []
    except (AssertionError, ValueError, ZeroDivisionError) as error:
        reason = _of_three_stages(settings) if name == "tri_stage" else None
        return [f"`lr_scheduler` ({name}) cannot be made: {reason or _where(error)}"]
    return []


def _of_three_stages(settings) -> Optional[str]:
    ratio, updates = settings.get("phase_ratio"), settings.max_update
    if ratio is None:
        return None if settings.get("decay_steps") else "give `lr_scheduler.phase_ratio`, or steps with `decay_steps` above 0"
    if updates <= 0:
        return "`lr_scheduler.phase_ratio` are shares of `optimization.max_update`, which must be more than 0"
    if sum(ratio) != 1:
        exact = 1 - sum(ratio[:-1])
        last = f", to the last bit: its third one would be {exact!r}" if exact > 0 else ""
        return f"`lr_scheduler.phase_ratio` is {_list(ratio)}, whose sum is {sum(ratio)!r}; it must be 1{last}"
    if int(updates * ratio[-1]) < 1:
        least = math.ceil(1 / ratio[-1]) if ratio[-1] > 0 else 0
        advice = f"`optimization.max_update` needs to be at least {least}" if least else "give it a share"
        return f"the decay, the third of `lr_scheduler.phase_ratio` {_list(ratio)}, has no whole update of {updates:g}; {advice}"
    return None


def _where(error) -> str:
    """What fairseq says; its line is the reason where it says no more."""
    line = traceback.extract_tb(error.__traceback__)[-1].line
    said = f" ({error})" if str(error) else ""
    return f"fairseq stops at `{line}`{said}"


def _list(numbers: Iterable) -> str:
    return f"[{', '.join(map(str, numbers))}]"
