"""An encoder that is not trained: eval mode, no gradient, copies and averages; and the layers that share N codebooks."""

import pytest
import torch

from tests.fixtures.models import disturb, latent_rq, same, weights
from tests.fixtures.targets import codes_by_the_equations, source_inputs


@pytest.fixture
def model():
    return latent_rq(layers=[0, 1])


def test_it_stays_in_eval_mode_and_takes_no_gradient(model):
    frozen = model.targets["snapshot"].encoder
    model.train()
    assert not any(module.training for module in frozen.modules())
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert not any(hidden.requires_grad for hidden in frozen(source_inputs(model)))


def test_it_keeps_the_layers_up_to_the_deepest_and_copies_those(model):
    frozen = model.targets["snapshot"].encoder
    assert frozen.num_layers == 1 and len(frozen.encoder.layers) == 1
    disturb(model)
    assert not same(weights(frozen), {key: weights(model.speech_encoder)[key] for key in weights(frozen)})
    frozen.copy(model.speech_encoder)
    trained = weights(model.speech_encoder)
    assert same(weights(frozen), {key: trained[key] for key in weights(frozen)}) and len(trained) > len(weights(frozen))
    inputs = source_inputs(model)
    encoded = model.speech_encoder.eval()(inputs.waveform, inputs.padding_mask)
    for ours, theirs in zip(frozen(inputs), [encoded.subsampled, encoded.layers[0]]):
        assert torch.allclose(ours[inputs.selected], theirs[inputs.selected], atol=1e-5)


def test_an_average_lies_where_the_decay_says(model):
    frozen = model.targets["snapshot"].encoder
    frozen.copy(model.speech_encoder)
    before = weights(frozen)
    disturb(model)
    frozen.average(model.speech_encoder, decay=0.75)
    trained = weights(model.speech_encoder)
    for key, value in dict(frozen.named_parameters()).items():
        assert torch.allclose(value, 0.75 * before[key] + 0.25 * trained[key], atol=1e-7), key


def test_columns_go_layer_by_layer_and_have_their_layers_codes():
    model = latent_rq(layers=[2, 0], other={"quantizer": {"num_codebooks": 4}})
    source, inputs = model.targets["snapshot"], source_inputs(model)
    model.set_num_updates(3)
    assert source.columns == ("layer2", "layer2", "layer0", "layer0")
    hidden = dict(enumerate(source.encoder(inputs)))
    assert torch.equal(source.eval()(inputs), codes_by_the_equations(source, hidden, inputs.frame_padding_mask))


@pytest.mark.parametrize(
    "layers, books, message",
    [
        ([], 2, "`model.targets.snapshot.layers` is []; name different layers from 1 to 2"),
        ([1, 1], 2, "`model.targets.snapshot.layers` is [1, 1]; name different layers"),
        ([3], 2, "`model.targets.snapshot.layers` is [3]; name different layers"),
        ([0, 1], 3, "`model.quantizer.num_codebooks` (3) cannot be shared out evenly over the 2 layers"),
    ],
)
def test_layers_that_cannot_be_are_named(layers, books, message, caplog):
    with pytest.raises(SystemExit):
        latent_rq(layers=layers, other={"quantizer": {"num_codebooks": books}})
    assert message in caplog.text


def test_building_it_draws_nothing_from_the_generator_of_training():
    plain, with_snapshot = latent_rq(use=("raw_input",)), latent_rq(use=("raw_input", "snapshot"))
    assert same(weights(plain.speech_encoder), weights(with_snapshot.speech_encoder))
    assert same(weights(plain.heads["raw_input"]), weights(with_snapshot.heads["raw_input"]))  # drawn after it
