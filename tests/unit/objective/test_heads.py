"""Prediction heads: what they begin with, and that new ones depend on seed and stage alone."""

import math

import pytest
import torch

from fairseq_birq.objective.heads import CodebookHeads


def test_they_begin_as_uniform_predictions():
    torch.manual_seed(0)
    heads = CodebookHeads(dim=32, codebook_size=512, num_codebooks=3)
    assert heads.weight.shape == (3, 512, 32) and heads.bias.shape == (3, 512)
    assert heads.weight.std().item() == pytest.approx(0.02, rel=0.02) and not heads.bias.any()
    hidden = torch.nn.functional.layer_norm(torch.randn(50, 32), (32,))
    log_p = (torch.einsum("nvd,td->tnv", heads.weight, hidden) + heads.bias).log_softmax(-1)
    assert -log_p.mean().item() == pytest.approx(math.log(512), abs=0.02)


def test_new_heads_depend_on_seed_and_stage_alone():
    heads = [CodebookHeads(8, 20, 2) for _ in range(4)]
    with torch.no_grad():
        heads[0].bias.fill_(3.0)
    for number, (one, (seed, stage)) in enumerate(zip(heads, [(1, 2), (1, 2), (1, 3), (2, 2)])):
        torch.manual_seed(number)
        one.redraw(seed, stage)
    first, again, other_stage, other_seed = (one.weight for one in heads)
    assert torch.equal(first, again) and not heads[0].bias.any()
    assert not torch.equal(first, other_stage) and not torch.equal(first, other_seed)
    assert first.std().item() == pytest.approx(0.02, rel=0.15)


def test_new_heads_leave_the_generator_of_training_where_it_was():
    torch.manual_seed(5)
    expected = torch.rand(3)
    heads = CodebookHeads(8, 20)
    torch.manual_seed(5)
    heads.redraw(1, 1)
    assert torch.equal(torch.rand(3), expected) and heads.weight.requires_grad
