"""Masks: coverage, independence of the batch, determinism, and what fills them."""

import pytest
import torch

from fairseq_birq.objective.masking import SpanMasker, uniforms, utterance_keys


def masker(**changes):
    settings = dict(step_ms=40.0, frames_per_step=4, span_ms=400.0, start_prob=0.01)
    return SpanMasker(**{**settings, **changes})


@pytest.mark.parametrize("start_prob, span_ms", [(0.01, 400.0), (0.04, 100.0), (0.005, 600.0)])
def test_coverage_is_the_one_that_the_paper_implies(start_prob, span_ms):
    keys = utterance_keys(1, 0, torch.arange(200))
    mask = masker(start_prob=start_prob, span_ms=span_ms).sample(torch.zeros(200, 2000, dtype=torch.bool), keys)
    span_frames = round(span_ms / 40) * 4
    assert abs(mask.float().mean() - (1 - (1 - start_prob) ** span_frames)) < 0.01


def test_spans_have_at_least_their_length_away_from_the_end():
    mask = masker(start_prob=0.003).sample(torch.zeros(50, 500, dtype=torch.bool), utterance_keys(1, 0, torch.arange(50)))
    for row in mask[:, :-10].int():
        edges = torch.diff(row, prepend=torch.zeros(1, dtype=torch.int32))
        starts, ends = (edges == 1).nonzero().flatten(), (edges == -1).nonzero().flatten()
        assert all(end - start >= 10 for start, end in zip(starts, ends))


def test_mask_of_an_utterance_does_not_depend_on_its_batch():
    alone = masker().sample(torch.zeros(1, 70, dtype=torch.bool), utterance_keys(3, 9, torch.tensor([17])))
    padding_mask = torch.zeros(4, 300, dtype=torch.bool)
    padding_mask[2, 70:] = True
    batch = masker().sample(padding_mask, utterance_keys(3, 9, torch.tensor([5, 99, 17, 4])))
    assert torch.equal(batch[2, :70], alone[0])
    assert not batch[2, 70:].any()


@pytest.mark.parametrize("other", [(2, 9, 0), (3, 10, 0), (3, 9, 1)])
def test_masks_differ_by_seed_update_and_view(other):
    padding_mask = torch.zeros(4, 300, dtype=torch.bool)
    first = masker().sample(padding_mask, utterance_keys(3, 9, torch.arange(4), view=0))
    seed, update, view = other
    second = masker().sample(padding_mask, utterance_keys(seed, update, torch.arange(4), view=view))
    assert not torch.equal(first, second)


def test_uniforms_are_uniform_and_uncorrelated_between_utterances():
    numbers = uniforms(utterance_keys(1, 1, torch.arange(100))[:, None], torch.arange(1000)[None, :], 1)
    counts = torch.histc(numbers.float(), bins=20, min=0, max=1)
    chi_square = ((counts - 5000) ** 2 / 5000).sum()
    assert chi_square < 50  # 19 degrees of freedom: exceeded with probability 1e-4
    assert torch.corrcoef(numbers).fill_diagonal_(0).abs().max() < 0.16  # 5 standard deviations


def test_noise_fills_masked_frames_only_and_has_the_named_deviation():
    x = torch.zeros(8, 403, 80)
    mask = torch.zeros(8, 100, dtype=torch.bool)
    mask[:, 10:60] = True
    filled = masker(noise_std=0.1).fill(x, mask, utterance_keys(1, 1, torch.arange(8)))
    inside = filled[:, 40:240]
    assert (filled[:, :40] == 0).all() and (filled[:, 240:] == 0).all()
    assert abs(inside.std() - 0.1) < 0.001 and abs(inside.mean()) < 0.001
    kurtosis = (inside**4).mean() / (inside**2).mean() ** 2
    assert abs(kurtosis - 3.0) < 0.1
    assert torch.equal(x, torch.zeros_like(x))


def test_an_utterance_shorter_than_a_span_and_an_empty_batch_are_fine():
    always = masker(start_prob=0.9)
    assert always.sample(torch.zeros(1, 3, dtype=torch.bool), utterance_keys(1, 1, torch.tensor([0]))).shape == (1, 3)
    assert always.sample(torch.zeros(0, 0, dtype=torch.bool), torch.zeros(0, dtype=torch.int64)).shape == (0, 0)
