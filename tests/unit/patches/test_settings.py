"""Settings that fairseq takes without a word: unknown ones, and two that say one thing."""

import logging

import pytest
from fairseq.dataclass.configs import FairseqConfig
from omegaconf import OmegaConf, open_dict

from fairseq_birq.errors import UserError
from fairseq_birq.patches.settings import check_settings, contradictions, unknown_settings


def cfg(**changes):
    made = OmegaConf.create(OmegaConf.to_container(OmegaConf.structured(FairseqConfig), enum_to_str=True))
    with open_dict(made):
        made.job_logging_cfg, made.optimization.max_update, made.optimization.lr = {}, 100, [0.1]
        for key, value in changes.items():
            OmegaConf.update(made, key.replace("__", "."), value, merge=False)
    return made


def test_what_fairseqs_command_makes_is_known():
    assert unknown_settings(cfg()) == contradictions(cfg()) == []


@pytest.mark.parametrize(
    "key, sentence",
    [
        ("override", "`override` is unknown"),
        ("optimisation", "`optimisation` is unknown; did you mean `optimization`?"),
        ("dataset__max_token", "`dataset.max_token` is unknown; did you mean `max_tokens`?"),
    ],
)
def test_keys_that_nobody_reads_are_refused(key, sentence):
    with pytest.raises(UserError) as error:
        check_settings(cfg(**{key: {"x": 1}}))
    assert str(error.value) == sentence


@pytest.mark.parametrize(
    "changes, part",
    [
        ({"lr_scheduler": {"total_num_update": 50.0}}, "the learning rate has its last value before the run ends"),
        ({"lr_scheduler": {"total_num_update": 200}}, "the learning rate does not reach its last value"),
        ({"lr_scheduler": {"max_update": 50}}, "`lr_scheduler.max_update` is 50"),
        ({"optimizer": {"lr": [0.2]}}, "`optimizer.lr` is [0.2], but `optimization.lr` is [0.1]"),
        ({"lr_scheduler": {"lr": 0.2}}, "`lr_scheduler.lr` is 0.2"),
        (
            {"task": {"frame_labels": "/a"}, "model": {"targets": {"label_file": {"path": "/b"}}}},
            "`task.frame_labels` is /a, so that `model.targets.label_file.path`, /b, is not read",
        ),
    ],
)
def test_two_settings_for_one_thing_are_said(changes, part, caplog):
    with caplog.at_level(logging.WARNING):
        check_settings(cfg(**changes))
    assert len(caplog.messages) == 1 and part in caplog.messages[0]


def test_two_settings_that_agree_are_not():
    same = {"lr_scheduler": {"total_num_update": 100.0, "lr": [0.1]}, "optimizer": {"lr": 0.1}}
    assert contradictions(cfg(**same, task={"frame_labels": "/a"})) == []
