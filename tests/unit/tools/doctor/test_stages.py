"""What the doctor says of target updates."""

import pytest
from omegaconf import OmegaConf

from fairseq_birq.config import BirqCtcConfig
from fairseq_birq.tools.doctor.checks import OK, WARNING
from fairseq_birq.tools.doctor.stages import check_stages


def cfg(updates, use=("snapshot",), max_update=5000, schedule="birq_stages"):
    return OmegaConf.create(
        {
            "model": {"targets": {"use": list(use), "snapshot": {"target_updates": list(updates)}}},
            "optimization": {"max_update": max_update},
            "lr_scheduler": {"_name": schedule},
        }
    )


def test_stages_have_the_lengths_between_target_updates():
    (check,) = check_stages(cfg([2000, 3500]))
    assert (check.status, check.text) == (OK, "3 stages, of 2000, 1500, 1500 updates")
    (check,) = check_stages(cfg([2000], max_update=0))
    assert (check.status, check.text) == (OK, "2 stages, of 2000 updates and the rest")


@pytest.mark.parametrize("updates, late", [([2000, 5000], [5000]), ([6000, 7000], [6000, 7000])])
def test_updates_that_never_come_are_named(updates, late):
    (check,) = check_stages(cfg(updates))
    assert check.status == WARNING and f"{late} never come, optimization.max_update is 5000" in check.text


def test_a_schedule_that_does_not_restart_is_named():
    (check,) = check_stages(cfg([2000], schedule="polynomial_decay"))
    assert check.status == WARNING and "lr_scheduler is polynomial_decay" in check.text
    assert len(check_stages(cfg([9000], schedule="fixed"))) == 2


def test_a_fine_tuning_run_has_none():
    fine_tuning = OmegaConf.create({"model": OmegaConf.structured(BirqCtcConfig)})
    OmegaConf.set_struct(fine_tuning, True)
    assert check_stages(fine_tuning) == []


@pytest.mark.parametrize("model", [{}, {"targets": {"use": ["raw_input"], "snapshot": {"target_updates": [5]}}}])
def test_other_runs_have_no_stages(model):
    assert check_stages(OmegaConf.create({"model": model})) == []
    assert check_stages(cfg([])) == []
