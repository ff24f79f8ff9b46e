"""The reward for varied labels, against the formula in float64."""

import math

import pytest
import torch
from torch.nn import functional as F

from fairseq_birq.objective.diversity_loss import diversity_loss
from tests.fixtures.models import batch, build
from tests.fixtures.objective import SCALE, example, soft_codes


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


def test_autocast_changes_nothing():
    _, _, _, unit, codebook, _ = example(frames=40, size=30, code_dim=8)
    unit, codebook = unit.detach().float().requires_grad_(), codebook.float()

    def computed(autocast):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            loss = diversity_loss(soft_codes(unit, codebook), 100)
        return loss, torch.autograd.grad(loss, unit)[0]  # outside of it, as in fairseq

    assert all(torch.equal(mine, theirs) for mine, theirs in zip(computed(True), computed(False)))


def test_equal_frames_cost_more_than_varied_ones():
    _, _, _, unit, codebook, _ = example(frames=40, code_dim=4)
    collapsed = F.normalize(unit[:1].detach(), dim=-1).expand_as(unit)
    assert diversity_loss(soft_codes(unit, codebook), 100) < diversity_loss(soft_codes(collapsed, codebook), 100) - 1.0


def test_the_model_adds_it_times_its_weight_and_that_of_f():
    def outputs(diversity_weight):
        own = {"layers": [1], "diversity_weight": diversity_weight}
        model = build(targets={"use": ["raw_input", "own_layer"], "own_layer": own}).train()
        return model(**batch([1.5, 1.1]), weights={"raw_input": 2.0, "own_layer": 0.5})

    plain, rewarded = outputs(0.0), outputs(3.0)
    added = 0.5 * 3.0 * rewarded.terms["own_layer"].diversity_loss.item()
    assert added < -1.0
    assert math.isclose(rewarded.loss.item() - plain.loss.item(), added, rel_tol=1e-3)


def test_two_processes_have_the_value_and_gradient_of_their_joined_batch(monkeypatch):
    """Each sees what all_reduce would bring from the other."""
    _, _, _, unit, codebook, _ = example(frames=9)
    whole = diversity_loss(soft_codes(unit, codebook), 100)
    expected = torch.autograd.grad(whole, unit)[0]
    parts = [unit.detach()[:3].clone().requires_grad_(), unit.detach()[3:].clone().requires_grad_()]
    scores = [-SCALE * (codebook[None] - part.detach()[:, :, None]).pow(2).sum(-1) for part in parts]
    sums = [torch.cat([s.softmax(-1).sum(0).flatten(), s.new_full((1,), len(s))]) for s in scores]
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    losses = []
    for part, others in zip(parts, (sums[1], sums[0])):
        monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor, others=others: tensor.add_(others))
        losses.append(diversity_loss(soft_codes(part, codebook), 100))
    assert torch.allclose(sum(losses), whole)
    gradients = [torch.autograd.grad(loss, part)[0] for loss, part in zip(losses, parts)]
    assert torch.allclose(torch.cat(gradients), expected, atol=1e-12)


def test_it_needs_a_gradient_through_the_labels():
    own = {"layers": [1], "diversity_weight": 1.0, "target_grad_scale": 0.0}
    with pytest.raises(SystemExit):
        build(targets={"use": ["raw_input", "own_layer"], "own_layer": own})
