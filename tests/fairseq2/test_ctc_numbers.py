"""Fine-tuning is the same through both fairseqs: equal weights, batches and counters give equal losses, gradients, weights.

What fairseq did is in tests/fixtures/fairseq2/ctc.pt, which make_ctc.py beside it writes in fairseq's environment.
"""

from pathlib import Path

import pytest
import torch

from fairseq_birq.fairseq2.asr.recipe import AsrRecipe
from fairseq_birq.training.ctc_step import CtcStep
from tests.fixtures.fairseq2 import ctc_case
from tests.fixtures.fairseq2.ctc_runs import config_of, train

WANTED = torch.load(Path(ctc_case.__file__).with_name("ctc.pt"), weights_only=True)


class RecordedRecipe(AsrRecipe):
    """Begins with the weights of fairseq's run, and keeps what `Recorder` records."""

    def setup_model(self, context, model, newly_initialized):
        model = super().setup_model(context, model, newly_initialized)
        model.load_state_dict(WANTED["initial"])
        self.recorder = ctc_case.Recorder(model)
        return model

    def create_task(self, context):
        task = super().create_task(context)
        context.get_optimizer().register_step_pre_hook(lambda optimizer, args, kwargs: self.recorder.step(optimizer))
        return task


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """The same of what fairseq2 did."""
    folder, recipe = tmp_path_factory.mktemp("run"), RecordedRecipe()
    data = ctc_case.write_corpus(folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        step = CtcStep.__call__

        def watched(self, model, sample):
            loss, sums = step(self, model, sample)
            recipe.recorder.batch(sample, loss, sums["sample_size"])
            return loss, sums

        patch.setattr(CtcStep, "__call__", watched)
        train(folder / "out", config_of(data), recipe)
    return recipe.recorder.content()


def test_batches_and_losses_are_equal(ours):
    assert ours["ids"] == WANTED["ids"]
    assert ours["losses"][:3] == pytest.approx(WANTED["losses"][:3], rel=1e-6)
    assert ours["losses"] == pytest.approx(WANTED["losses"], rel=1e-4)


def test_gradients_are_equal(ours):
    """Those of the first update, where only the output layer learns, and of the first after the frozen beginning."""
    assert len(WANTED["grads"][0]) < len(WANTED["grads"][2])
    for number, wanted in WANTED["grads"].items():
        found = ours["grads"][number]
        assert found.keys() == wanted.keys()
        worst = max(float((found[name] - value).abs().max()) for name, value in wanted.items())
        assert worst < 1e-6, (number, worst)


def test_ten_updates_stay_together(ours):
    moved = max(float((WANTED["initial"][name] - value).abs().max()) for name, value in WANTED["final"].items())
    apart = max(float((ours["final"][name] - value).abs().max()) for name, value in WANTED["final"].items())
    assert moved > 1e-3 and apart < 1e-4, (moved, apart)
