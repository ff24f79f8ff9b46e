"""Model `birq` as a whole: what padding, masks, batches, precision and processes may not change."""

import pytest
import torch
from omegaconf import OmegaConf

from fairseq_birq.config import BirqConfig
from fairseq_birq.doors.birq import FairseqBirqModel as BirqModel
from fairseq_birq.errors import UserError
from fairseq_birq.objective.masking import utterance_keys
from fairseq_birq.structs import Features
from tests.fixtures.models import batch, build


def total(output):
    return output.loss


VARIANTS = [("logmel", "conformer"), ("logmel", "transformer"), ("waveform", "transformer"), ("waveform", "conformer")]


@pytest.mark.parametrize("frontend, encoder", VARIANTS)
def test_a_padded_batch_gives_each_utterance_its_own_loss_and_codes(frontend, encoder):
    model = build(frontend, encoder).eval()
    together = model(**batch([2.0, 1.2, 1.7], extra_padding=0.6))
    inputs = batch([2.0, 1.2, 1.7])
    alone = []
    for index, seconds in enumerate([2.0, 1.2, 1.7]):
        wave = inputs["waveform"][index : index + 1, : int(16000 * seconds)]
        alone.append(model(wave, torch.zeros_like(wave, dtype=torch.bool), torch.tensor([index])))
    assert together.num_masked == sum(output.num_masked for output in alone) > 20
    assert together.num_frames == sum(output.num_frames for output in alone)
    assert total(together).item() == pytest.approx(sum(total(output).item() for output in alone), rel=1e-5)
    histograms = [output.terms["raw_input"].histogram for output in alone]
    assert torch.equal(together.terms["raw_input"].histogram, sum(histograms))


@pytest.mark.parametrize("frontend, encoder", VARIANTS[:3])
def test_values_inside_a_masked_span_do_not_change_any_prediction(frontend, encoder):
    model = build(frontend, encoder).eval()
    features = Features(torch.randn(2, 83, model.speech_encoder.frontend.feature_dim), torch.zeros(2, 83, dtype=torch.bool))
    steps = 83 // model.masker.frames_per_step
    mask = torch.zeros(2, steps, dtype=torch.bool)
    mask[0, 3:9], mask[1, :2] = True, True
    keys = utterance_keys(1, 1, torch.arange(2))
    before = model.encode(features, torch.zeros_like(mask), mask, keys, {})[0]
    features.x[mask.repeat_interleave(model.masker.frames_per_step, 1).nonzero(as_tuple=True)] += 100.0
    assert torch.equal(model.encode(features, torch.zeros_like(mask), mask, keys, {})[0], before)
    features.x[0, 0] += 1.0
    assert not torch.equal(model.encode(features, torch.zeros_like(mask), mask, keys, {})[0], before)


def test_masked_frames_alone_carry_the_loss():
    model = build().eval()
    inputs = batch([2.0, 1.2], extra_padding=0.5)
    output = model(**inputs)
    assert output.terms["raw_input"].histogram.sum(-1).tolist() == [output.num_masked] * 2
    assert output.num_masked < output.num_frames


@pytest.mark.parametrize("start_prob", [0.0])
def test_nothing_masked_is_a_finite_zero(start_prob):
    model = build(mask={"start_prob": start_prob})
    output = model(**batch([1.0]))
    total(output).backward()
    assert output.num_masked == 0 and total(output).item() == 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_an_empty_batch_is_a_finite_zero_on_every_parameter():
    model = build()
    output = model(torch.zeros(0, 0), torch.zeros(0, 0, dtype=torch.bool), torch.zeros(0, dtype=torch.int64))
    total(output).backward()
    assert total(output).item() == 0 and output.num_frames == 0
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_an_utterance_shorter_than_an_encoder_frame_does_no_harm():
    model = build(mask={"start_prob": 0.2}).eval()
    output = model(**batch([1.0, 0.03]))
    assert total(output).isfinite()


def test_gradient_of_two_processes_is_that_of_the_joined_batch():
    """Masks follow utterances, not batches, so summed losses and gradients add up."""
    model = build().train()
    model.set_num_updates(7)
    joined = batch([2.0, 1.2, 1.7, 0.9])
    total(model(**joined)).backward()
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    for rows in ([0, 2], [1, 3]):
        total(model(**{key: value[rows] for key, value in joined.items()})).backward()
    for gradient, p in zip(expected, model.parameters()):
        assert torch.allclose(gradient, p.grad, atol=1e-4, rtol=1e-4)


def test_masks_change_with_the_update_in_training_and_stay_in_validation():
    model = build()
    inputs = batch([3.0])
    losses = {}
    for mode in (True, False):
        for update in (1, 2, 1):
            model.train(mode)
            model.set_num_updates(update)
            losses.setdefault((mode, update), []).append(total(model(**inputs)).item())
    assert losses[True, 1][0] == losses[True, 1][1] != losses[True, 2][0]
    assert losses[False, 1] == losses[False, 2] * 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_labels_are_the_same_in_a_model_that_was_cast(dtype):
    inputs = batch([1.5, 1.0])
    codes = build().eval()(**inputs).terms["raw_input"].histogram
    model = build().to(dtype).eval()
    output = model(**inputs)
    assert torch.equal(output.terms["raw_input"].histogram, codes)
    assert total(output).isfinite()
    total(model.train()(**inputs)).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_labels_get_no_gradient_and_targets_have_no_parameters():
    model = build()
    assert not list(model.targets.parameters())
    assert not any(code.requires_grad for code in [model(**batch([1.0])).terms["raw_input"].histogram])


def test_another_quantizer_is_refused_when_weights_are_loaded(caplog):
    state = build().state_dict()
    build().load_state_dict(state)
    for changes in ({"quantizer": {"seed": 2}}, {"targets": {"raw_input": {"quantizer_norm": "utterance"}}}):
        with pytest.raises(SystemExit):
            build(**changes).load_state_dict(state)
        assert "fingerprint" in caplog.text
        caplog.clear()


def test_another_architecture_is_refused_in_one_sentence(caplog):
    with pytest.raises(SystemExit):
        build(encoder="transformer").load_state_dict(build().state_dict())
    assert "do not fit this configuration" in caplog.text


@pytest.mark.parametrize(
    "changes, name",
    [
        ({"targets": {"use": ["raw_imput"]}}, "raw_imput"),
        ({"targets": {"use": []}}, "targets.use"),
        ({"encoder": {"num_heads": 3}}, "num_heads"),
        ({"mask": {"start_prob": 1.5}}, "start_prob"),
        ({"quantizer": {"codebook_size": 0}}, "codebook_size"),
    ],
)
def test_settings_that_cannot_be_are_named(changes, name, caplog):
    encoder = changes.pop("encoder", None)
    with pytest.raises(SystemExit):
        cfg = OmegaConf.merge(OmegaConf.structured(BirqConfig), {"encoder": {"dim": 16, "num_heads": 2}}, changes)
        BirqModel.build_model(OmegaConf.merge(cfg, {"encoder": encoder or {}}))
    assert name in caplog.text


def test_a_misspelt_key_is_an_error():
    with pytest.raises(Exception, match="codebok_size"):
        OmegaConf.merge(OmegaConf.structured(BirqConfig), {"quantizer": {"codebok_size": 3}})


def test_user_error_is_an_ordinary_exception():
    assert issubclass(UserError, ValueError)
