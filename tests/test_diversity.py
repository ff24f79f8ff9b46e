"""The reward for varied labels, against the formula in float64."""

import torch
from torch.nn import functional as F

from fairseq_birq.diversity import diversity_loss
from tests.test_birq import SCALE, example, soft_codes
from tests.test_model import batch, build


def minus_entropy(unit, codebook):
    """M * sum m log m with everything whole in memory, mean over codebooks."""
    scores = -SCALE * (codebook[None] - unit[:, :, None]).pow(2).sum(-1)
    mean = scores.softmax(-1).mean(0)
    return unit.shape[0] * (mean * mean.log()).sum(-1).mean()


def test_value_and_gradient_equal_the_formula_whatever_the_block():
    _, _, _, unit, codebook, _ = example(frames=7)
    expected = minus_entropy(unit, codebook)
    slopes = torch.autograd.grad(expected, unit)[0]
    for block_bytes in (1, 60, 1 << 20):
        loss = diversity_loss(soft_codes(unit, codebook), block_bytes)
        assert torch.allclose(loss, expected)
        # a constant in the gradient of every code's share moves nothing: compare along the sphere's tangents too
        assert torch.allclose(torch.autograd.grad(loss, unit)[0], slopes, atol=1e-12)


def test_equal_frames_cost_more_than_varied_ones():
    _, _, _, unit, codebook, _ = example(frames=40, code_dim=4)
    collapsed = F.normalize(unit[:1].detach(), dim=-1).expand_as(unit)
    assert diversity_loss(soft_codes(unit, codebook), 100) < diversity_loss(soft_codes(collapsed, codebook), 100) - 1.0


def test_the_model_adds_it_in_proportion_to_f():
    def loss(diversity_weight):
        own = {"layers": [1], "diversity_weight": diversity_weight}
        model = build(targets={"use": ["raw_input", "own_layer"], "own_layer": own}).train()
        return model(**batch([1.5, 1.1]), weights={"raw_input": 2.0, "own_layer": 0.5}).loss.item()

    plain, once, twice = loss(0.0), loss(1.0), loss(2.0)
    assert once < plain - 1e-3
    assert abs((twice - plain) - 2 * (once - plain)) < 1e-3 * abs(once - plain)
