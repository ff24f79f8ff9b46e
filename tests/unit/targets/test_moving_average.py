"""The moving average against a plain one, its decay, its precision, and what it is made of."""

import copy

import pytest
import torch

from tests.fixtures.models import averaging, batch, disturb, same, weights
from tests.fixtures.targets import codes_by_the_equations, source_inputs


def test_the_average_equals_a_plain_one():
    model, expected = averaging(), None
    for update, decay in enumerate([None, 0.6, 0.7, 0.8, 0.9, 0.9, 0.9]):  # linear to 0.9 at 4
        trained = {key: value.double().clone() for key, value in weights(model.speech_encoder).items()}
        if decay is None:
            expected = trained
        else:
            expected = {key: decay * expected[key] + (1 - decay) * value for key, value in trained.items()}
        for _ in range(2):  # the same count again changes nothing
            model.set_num_updates(update)
        average = weights(model.targets["moving_average"].encoder)
        assert len(average) == len(expected) > 20
        assert all(torch.allclose(average[key].double(), expected[key], atol=1e-6) for key in expected)
        disturb(model, seed=update)


def test_it_begins_as_a_copy_and_buffers_are_copied():
    model = averaging()
    average = model.targets["moving_average"].encoder
    for encoder in (average, model.speech_encoder):
        encoder.register_buffer("running_mean", torch.zeros(3))
    for update in range(3):
        model.set_num_updates(update)
        if update == 0:
            assert same(weights(average), weights(model.speech_encoder))
        theirs = dict(model.speech_encoder.named_buffers())
        assert all(torch.equal(buffer, theirs[name]) for name, buffer in average.named_buffers())
        model.speech_encoder.running_mean += 1
        disturb(model)
    assert average.running_mean.tolist() == [2.0] * 3
    assert not same(weights(average), weights(model.speech_encoder))


def test_codes_are_those_of_the_averaged_weights():
    model = averaging()
    for update in range(3):
        model.set_num_updates(update)
        disturb(model, seed=update)
    separate = copy.deepcopy(model.speech_encoder)
    separate.load_state_dict(model.targets["moving_average"].encoder.state_dict())
    inputs = source_inputs(model)
    encoded = separate.eval()(inputs.waveform, inputs.padding_mask)
    expected = codes_by_the_equations(model.targets["moving_average"], [None, *encoded.layers], inputs.frame_padding_mask)
    assert torch.equal(model.targets["moving_average"](inputs), expected)


def test_the_average_of_a_bf16_model_is_kept_in_float32():
    """At a decay of 0.999, bf16 could not hold one step."""
    model = averaging(decay_start=0.999, decay_end=0.999).to(torch.bfloat16)
    average = model.targets["moving_average"].encoder
    model.set_num_updates(0)
    before = weights(average)
    disturb(model)
    model.set_num_updates(1)
    trained = weights(model.speech_encoder)
    for key, value in weights(average).items():
        assert value.dtype == torch.float32
        assert torch.allclose(value, 0.999 * before[key] + 0.001 * trained[key].float(), atol=1e-7)
    assert not same(weights(average), before)


def test_it_computes_in_the_trained_encoder_s_precision(monkeypatch):
    """The waveform of a batch is float64, so that fairseq does not cast it with the model."""
    model = averaging().to(torch.bfloat16)
    average, given, seen = model.targets["moving_average"].encoder, batch([1.5, 1.0]), []
    average.encoder.layers[0].ffn1.expand.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    model.set_num_updates(0)
    model(given["waveform"].double(), given["padding_mask"], given["ids"]).loss.backward()
    assert seen == [torch.bfloat16]


def test_codes_in_bf16_are_close_to_those_in_float32():
    model = averaging()
    model.set_num_updates(0)
    inputs = source_inputs(model)
    full = model.targets["moving_average"].encoder(inputs)[-1]
    model.targets["moving_average"].encoder.follow_precision(torch.nn.Linear(1, 1).bfloat16())
    half = model.targets["moving_average"].encoder(inputs)[-1]
    assert full.dtype == torch.float32 and not torch.equal(half.float(), full)
    assert torch.allclose(half.float(), full, atol=0.1)


@pytest.mark.parametrize("key", ["decay_start", "decay_end", "statistics_momentum"])
@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_shares_out_of_range_are_named(key, value, caplog):
    with pytest.raises(SystemExit):
        averaging(**{key: value})
    assert f"`model.targets.moving_average.{key}` must be from 0 to 1, but is {value:g}" in caplog.text


def test_its_statistics_run_on_in_training_alone():
    model = averaging(statistics_momentum=0.5)
    norm = model.targets["moving_average"].normalisations[0]
    seen = []
    for seconds, mode in (([1.5], True), ([0.8], True), ([2.0], False)):
        model.train(mode)(**batch(seconds))
        seen.append(weights(norm))
    assert not same(seen[0], seen[1]) and same(seen[1], seen[2])


def test_a_stopped_run_goes_on_with_the_same_average():
    model, resumed = averaging(use=["raw_input", "moving_average"]), averaging(use=["raw_input", "moving_average"])
    for update in range(3):
        model.set_num_updates(update)
        model(**batch([1.5]))
        disturb(model, seed=update)
    resumed.set_num_updates(3)  # as fairseq does before it loads
    resumed.load_state_dict(copy.deepcopy(model.state_dict()))
    for each in (model, resumed):
        each.set_num_updates(3)
    assert torch.equal(model(**batch([1.5])).loss, resumed(**batch([1.5])).loss)
    assert same(weights(model), weights(resumed))


def test_layers_are_shared_out_as_the_snapshots_are(caplog):
    assert averaging().targets["moving_average"].columns == ("layer1", "layer2")
    with pytest.raises(SystemExit):
        averaging(layers=[0, 1, 2])
    assert "model.targets.moving_average.layers" in caplog.text
