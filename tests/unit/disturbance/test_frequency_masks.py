"""Frequency masks: widths and places, what is hidden, in pre-training and in fine-tuning."""

import pytest
import torch

from fairseq_birq.config import BirqCtcConfig
from fairseq_birq.ctc import BirqCtcModel
from fairseq_birq.disturbance.frequency_masks import FrequencyMasks
from fairseq_birq.errors import UserError
from fairseq_birq.objective.masking import utterance_keys
from fairseq_birq.settings import from_dict
from fairseq_birq.structs import Features
from tests.fixtures import models

KEYS = utterance_keys(1, 1, torch.arange(20000))


def test_a_band_has_every_width_alike_and_lies_anywhere():
    hidden = FrequencyMasks(num_bins=8, count=1, max_bins=3).hidden(KEYS)
    widths = torch.bincount(hidden.sum(1), minlength=9)
    assert torch.allclose(widths[:4] / len(KEYS), torch.full((4,), 0.25), atol=0.015) and not widths[4:].any()
    edges = torch.diff(hidden.int(), dim=1).abs().sum(1) + hidden[:, 0] + hidden[:, -1]
    assert (edges[hidden.any(1)] == 2).all()  # one band each
    single = hidden[hidden.sum(1) == 1].double().mean(0)
    assert torch.allclose(single, torch.full((8,), 1 / 8, dtype=torch.float64), atol=0.025)


def test_hidden_bins_are_zero_in_all_frames_and_the_others_are_as_before():
    masks = FrequencyMasks(num_bins=8, count=2, max_bins=3)
    before = Features(torch.randn(5, 7, 8), torch.zeros(5, 7, dtype=torch.bool))
    after, hidden = masks(before, KEYS[:5]).x, masks.hidden(KEYS[:5])
    assert hidden.any() and not hidden.all()
    assert torch.equal(after, before.x * ~hidden[:, None])


def test_clean_targets_and_a_loss_that_is_different():
    plain, masked = (models.build(disturbance=one).train() for one in ({}, {"frequency_masks": {"count": 2}}))
    outputs = [model(**models.batch([1.0, 0.7])) for model in (plain, masked)]
    assert torch.equal(*(output.terms["raw_input"].codes for output in outputs))
    assert outputs[0].loss != outputs[1].loss
    assert outputs[1].realised["hidden_bins"] > 0 and outputs[1].realised["disturbed"] == 0


def ctc(**settings):
    torch.manual_seed(0)
    encoder = {
        "num_layers": 1,
        "dim": 8,
        "ffn_dim": 8,
        "num_heads": 2,
        "conv_kernel": 5,
        "dropout": 0.0,
        "attention_dropout": 0.0,
    }
    return BirqCtcModel.build_model(from_dict(BirqCtcConfig, {"encoder": encoder, "dropout": 0.0, **settings}), 5)


def test_fine_tuning_hears_them_with_and_without_masks_of_time():
    inputs = models.batch([1.0, 0.7])
    plain, masked, both = (
        ctc(apply_mask=spans, disturbance={"frequency_masks": {"count": count}})
        for spans, count in ((False, 0), (False, 2), (True, 2))
    )
    both.masker.start_prob = 0.2
    heard = [model.train()(**inputs).logits for model in (plain, masked, both)]
    assert not torch.equal(heard[0], heard[1]) and not torch.equal(heard[1], heard[2])
    assert torch.equal(*(model.eval()(**inputs).logits for model in (plain, both)))


def test_fine_tuning_hears_disturbed_waveforms_in_training_alone():
    inputs = models.batch([1.0, 0.7])
    plain, loud = (ctc(apply_mask=False, disturbance={"overlap": {"prob": prob}}) for prob in (0.0, 1.0))
    output = loud.train()(**inputs)
    assert output.realised["overlap"] == 2 and not torch.equal(output.logits, plain.train()(**inputs).logits)
    assert torch.equal(loud.eval()(**inputs).logits, plain.eval()(**inputs).logits) and loud(**inputs).realised is None
    empty = loud.train()(torch.zeros(0, 0), torch.zeros(0, 0, dtype=torch.bool), torch.zeros(0, dtype=torch.int64))
    assert empty.realised.keys() == output.realised.keys()


@pytest.mark.parametrize(
    "frontend, changes, words",
    [
        ("logmel", {"count": -1}, "at least 0"),
        ("logmel", {"count": 1, "max_bins": 81}, "80 Mel bins"),
        ("waveform", {"count": 1}, "without Mel bins"),
    ],
)
def test_settings_that_cannot_be_are_said(frontend, changes, words):
    with pytest.raises(UserError, match=words):
        ctc(frontend={"name": frontend, "waveform_dim": 16}, disturbance={"frequency_masks": changes})
