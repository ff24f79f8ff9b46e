"""TensorBoard and W&B get grouped names; the JSON log, which curves are read from, keeps the plain ones."""

import json
import logging

import pytest
from fairseq.logging import progress_bar

from fairseq_birq.patches import install
from fairseq_birq.patches.metric_groups import grouped
from fairseq_birq.patches.run_state import RunState

EXPECTED = {
    "loss": "loss/loss",
    "loss_own_layer_0": "loss/loss_own_layer_0",
    "loss_scale": "optimizer/loss_scale",
    "accuracy_raw_input": "prediction/accuracy_raw_input",
    "perplexity_raw_input": "codes/perplexity_raw_input",
    "nmi_own_layer_raw_input": "codes/nmi_own_layer_raw_input",
    "gradient_norm_own_layer": "optimizer/gradient_norm_own_layer",
    "wer": "errors/wer",
    "bad_audio": "data/bad_audio",
    "ups": "speed/ups",
    "num_updates": "num_updates",
    "something_new": "something_new",
    "clipped_words": "clipped_words",
}


@pytest.mark.parametrize("name", EXPECTED)
def test_names_have_groups(name):
    assert grouped(name) == EXPECTED[name]


class Writer:
    def __init__(self):
        self.sent = []

    def add_scalar(self, name, value, step):
        self.sent.append((name, value, step))

    def flush(self):
        pass


@pytest.fixture(params=[True, False], ids=["ours", "another task's"])
def ours(request, monkeypatch):
    """Whether the run in progress is of a task of ours."""
    install()
    monkeypatch.setattr(RunState, "in_progress", RunState() if request.param else None)
    return request.param


def test_tensorboard_gets_groups_and_the_json_log_plain_names(ours, monkeypatch, caplog):
    writer = Writer()
    monkeypatch.setattr(progress_bar.TensorboardProgressBarWrapper, "_writer", lambda self, tag: writer)
    bar = progress_bar.progress_bar([0], log_format="json", tensorboard_logdir="unused", epoch=1)
    with caplog.at_level(logging.INFO):
        bar.print({"perplexity_raw_input": 12.5, "num_updates": 7}, tag="train")
    assert writer.sent == [("codes/perplexity_raw_input" if ours else "perplexity_raw_input", 12.5, 7)]
    (line,) = [record.getMessage() for record in caplog.records if "perplexity" in record.getMessage()]
    assert json.loads(line)["train_perplexity_raw_input"] == "12.5"


def test_weights_and_biases_gets_groups_below_the_subset(ours, monkeypatch):
    class Recorder:
        sent = []

        def init(self, **settings):
            pass

        def log(self, values, step):
            self.sent.append((values, step))

    monkeypatch.setattr(progress_bar, "wandb", Recorder())
    bar = progress_bar.WandBProgressBarWrapper(progress_bar.NoopProgressBar([0]), "project")
    bar.log({"wer": 50.0, "num_updates": 3}, tag="valid")
    assert Recorder.sent == [({"valid/errors/wer" if ours else "valid/wer": 50.0}, 3)]
