"""BiRQ's own layer: whose codebook and head it uses, whose frames it labels, and what reaches the encoder through them."""

import pytest
import torch
from torch.nn import functional as F

from fairseq_birq.objective.masking import gumbel_offsets
from tests.fixtures.models import batch, birq
from tests.fixtures.targets import source_inputs


def given(model):
    """Inputs with hidden states of layers 1 and 2 that have a gradient of their own."""
    inputs = source_inputs(model)
    generator = torch.Generator().manual_seed(0)
    shape = (*inputs.frame_padding_mask.shape, 16)
    inputs.hidden = {layer: torch.randn(shape, generator=generator).requires_grad_() for layer in (1, 2)}
    return inputs


def test_unit_vectors_are_projected_standardised_hidden_states():
    """With the batch's own statistics, as there are none yet: A z on the unit sphere, in float64."""
    model = birq(layers=[1, 2])
    source, inputs = model.targets["own_layer"].eval(), given(model)
    soft = source(inputs)
    for layer, unit, quantizer in zip((1, 2), soft.units, source.quantizers):
        frames = inputs.hidden[layer][~inputs.frame_padding_mask].double()
        variance, mean = torch.var_mean(frames, dim=0, unbiased=False)
        z = F.layer_norm((frames - mean) / (variance + 1e-5).sqrt(), (16,))
        expected = torch.stack([F.normalize(z @ projection, dim=-1) for projection in quantizer.projection.double()], dim=1)
        assert unit.shape == (int(inputs.selected.sum()), 2, 4)
        assert torch.allclose(unit.double(), expected, atol=1e-5)
    rows, columns = inputs.frames()
    assert torch.equal(soft.offsets, gumbel_offsets(inputs.keys[rows], columns, 4))
    assert (soft.score_scale, soft.temperature, soft.straight_through) == (5.0, 0.5, False)


def test_unit_vectors_are_the_same_under_autocast():
    source = birq(normalisation="whiten").targets["own_layer"]
    expected = source(given(birq())).units[0]
    source.normalisations[0].reset()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = source(given(birq())).units[0]
    assert found.dtype == torch.float32 and torch.equal(found, expected)


@pytest.mark.parametrize("scale", [0.0, 0.25, 1.0])
def test_the_gradient_through_the_labels_has_its_factor(scale):
    model, plain = birq(target_grad_scale=scale), birq()
    gradients = []
    for one in (model, plain):
        inputs = given(one)
        one.targets["own_layer"](inputs).units[0].cos().sum().backward()
        gradients.append(inputs.hidden[1].grad)
    assert gradients[1].abs().max() > 1e-3 and torch.allclose(gradients[0], scale * gradients[1], atol=1e-7)
    assert model.targets["own_layer"].needs_gradient == (scale > 0)


def test_the_anchors_codebook_and_head_are_shared_unless_they_are_not():
    shared, own = birq(), birq(shared_codebook=False, shared_head=False)
    anchor = shared.targets["raw_input"].quantizer
    assert torch.equal(shared.targets["own_layer"].quantizers[0].codebook, anchor.codebook)
    assert not torch.equal(own.targets["own_layer"].quantizers[0].codebook, anchor.codebook)
    assert sorted(shared.heads) == ["raw_input"] and sorted(own.heads) == ["own_layer", "raw_input"]


def test_every_layer_has_a_projection_of_its_own():
    first, second = birq(layers=[1, 2]).targets["own_layer"].quantizers
    assert not torch.equal(first.projection, second.projection)


@pytest.mark.parametrize(
    "own_layer, message",
    [
        ({"layers": []}, "`model.targets.own_layer.layers` is []; name layers from 1 to 2"),
        ({"layers": [3]}, "`model.targets.own_layer.layers` is [3]; name layers from 1 to 2"),
        ({"layers": [0]}, "`model.targets.own_layer.layers` is [0]; name layers from 1 to 2"),
        ({"diversity_weight": 0.5, "target_grad_scale": 0.0}, "`model.targets.own_layer.diversity_weight` acts through"),
        ({"statistics_momentum": 2.0}, "`model.targets.own_layer.statistics_momentum` must be from 0 to 1, but is 2"),
    ],
)
def test_settings_that_cannot_be_are_named(own_layer, message, caplog):
    with pytest.raises(SystemExit):
        birq(**own_layer)
    assert message in caplog.text


def test_the_fingerprint_is_of_layers_normalisation_and_projections():
    prints = [
        birq(**change).targets["own_layer"].fingerprint()
        for change in ({}, {}, {"layers": [2]}, {"normalisation": "layer"}, {"seed": 3})
    ]
    assert prints[0] == prints[1] and len(set(prints)) == 4


def test_the_model_hands_over_its_unmasked_hidden_states():
    model, inputs, seen = birq().eval(), batch([1.0]), []
    model.targets["own_layer"].register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0].hidden))
    model(**inputs)
    encoded = model.speech_encoder(inputs["waveform"], inputs["padding_mask"])
    assert list(seen[0]) == [1] and torch.allclose(seen[0][1], encoded.layers[0], atol=1e-5)
