"""Schedules that fairseq stops at with an assertion: its own class is made of the same settings beside each sentence."""

import logging

import pytest
from fairseq.dataclass.configs import FairseqConfig
from fairseq.optim.lr_scheduler import build_lr_scheduler
from omegaconf import OmegaConf

from fairseq_birq.errors import UserError
from fairseq_birq.patches.schedule import NoWeights, schedule_problems
from fairseq_birq.patches.settings import check_settings


def cfg(name, updates, lr=(0.1,), **settings):
    made = OmegaConf.structured(FairseqConfig)
    made.optimization.max_update, made.optimization.lr = updates, list(lr)
    end = {"max_update": updates} if name in ("tri_stage", "cosine") else {}
    made.lr_scheduler = {"_name": name, "lr": list(lr), **end, **settings}
    return made


CASES = {
    "no update for the decay": (
        cfg("tri_stage", 2, phase_ratio=[0.2, 0.4, 0.4]),
        r"has no whole update of 2; `optimization.max_update` needs to be at least 3",
    ),
    "no update for the decay alone": (cfg("tri_stage", 9, phase_ratio=[0.1, 0.8, 0.1]), "no whole update of 9.*at least 10"),
    "no decay": (cfg("tri_stage", 20, phase_ratio=[0.5, 0.5, 0.0]), "no whole update of 20; give it a share"),
    "a sum of 0.9": (cfg("tri_stage", 20, phase_ratio=[0.1, 0.4, 0.4]), r"phase_ratio` is \[0.1, 0.4, 0.4\], whose sum is 0.9;"),
    "a sum that is 1 but for its last bit": (
        cfg("tri_stage", 20, phase_ratio=[0.7, 0.2, 0.1]),
        r"0.9999999999999999; it must be 1, to the last bit: its third one would be 0.10000000000000009",
    ),
    "no end": (
        cfg("tri_stage", 0, phase_ratio=[0.2, 0.4, 0.4]),
        "`optimization.max_update`, which must be more than 0",
    ),
    "neither ratio nor steps": (cfg("tri_stage", 20), "give `lr_scheduler.phase_ratio`, or steps"),
    "steps without decay": (cfg("tri_stage", 20, warmup_steps=5), "give `lr_scheduler.phase_ratio`, or steps"),
    "a last rate of nothing": (
        cfg("tri_stage", 20, phase_ratio=[0.2, 0.4, 0.4], final_lr_scale=0.0),
        r"fairseq stops at `.*math.log\(cfg.final_lr_scale\)",
    ),
    "a rate per epoch": (cfg("tri_stage", 20, (0.1, 0.2), phase_ratio=[0.2, 0.4, 0.4]), "Consider --lr-scheduler=fixed"),
    "polynomial_decay to nothing": (cfg("polynomial_decay", 20, total_num_update=0.0), "`assert cfg.total_num_update > 0`"),
    "inverse_sqrt without warm-up": (cfg("inverse_sqrt", 20, warmup_updates=0), "stops at `.*/ cfg.warmup_updates`"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_fairseq_stops_at_is_refused_with_a_reason(case):
    given, part = CASES[case]
    with pytest.raises((AssertionError, ValueError, ZeroDivisionError)):
        build_lr_scheduler(given.lr_scheduler, NoWeights())
    with pytest.raises(UserError, match=f"^`lr_scheduler` .{given.lr_scheduler._name}. cannot be made: .*{part}"):
        check_settings(given)


def test_a_schedule_that_fails_at_its_last_update_alone_is_refused():
    given = cfg("cosine", 20, warmup_updates=20)
    build_lr_scheduler(given.lr_scheduler, NoWeights()).step_update(19)
    assert "cannot be made: fairseq stops at" in schedule_problems(given)[0]


@pytest.mark.parametrize(
    "given",
    [
        cfg("tri_stage", 3, phase_ratio=[0.2, 0.4, 0.4]),
        cfg("tri_stage", 20, phase_ratio=[0.7, 0.2, 0.10000000000000009]),
        cfg("tri_stage", 20, decay_steps=1),
        cfg("polynomial_decay", 20, total_num_update=10.0, warmup_updates=30),
        cfg("inverse_sqrt", 0, warmup_updates=4),
        cfg("reduce_lr_on_plateau", 20, maximize_best_checkpoint_metric=False),
        cfg("reduce_lr_on_plateau", 20),  # incomplete
        cfg("fixed", 20, (0.1, 0.2)),
        cfg("pass_through", 20),
        cfg("birq_stages", 20, warmup_updates=100),  # refused by itself
        OmegaConf.structured(FairseqConfig),
    ],
)
def test_others_are_taken_as_they_are(given, caplog):
    before = OmegaConf.to_yaml(given)
    with caplog.at_level(logging.ERROR):
        assert schedule_problems(given) == [] and not caplog.messages
    assert OmegaConf.to_yaml(given) == before
