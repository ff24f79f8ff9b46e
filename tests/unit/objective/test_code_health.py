"""Measures of code health on histograms with known answers."""

import math

import pytest
import torch

from fairseq_birq.objective.code_health import bits_per_second, entropy, perplexity, repeated_share, top_share, used_share


def test_known_values():
    even, single, mixed = torch.tensor([[5, 5, 5, 5], [7, 0, 0, 0], [2, 1, 1, 0]])
    assert perplexity(even).item() == pytest.approx(4)
    assert perplexity(single).item() == pytest.approx(1)
    assert entropy(mixed).item() == pytest.approx(1.5 * math.log(2))
    assert top_share(torch.stack([even, single, mixed])).tolist() == [0.25, 1.0, 0.5]
    assert used_share(torch.stack([even, single, mixed])).tolist() == [1.0, 0.25, 0.75]


def test_nothing_counted_is_finite():
    nothing = torch.zeros(2, 8)
    for measure in (entropy, perplexity, top_share, used_share):
        assert measure(nothing).isfinite().all()


def test_repeats_do_not_reach_over_utterances():
    codes = torch.tensor([[1, 1], [1, 2], [1, 2], [3, 3]])
    first = torch.tensor([True, False, True, False])
    assert repeated_share(codes, first).tolist() == [0.5, 0.0]
    assert repeated_share(codes[:1], first[:1]).tolist() == [0.0, 0.0]


def test_four_equal_codes_at_25_hz_are_50_bits_per_second():
    assert bits_per_second(torch.tensor([[3, 3, 3, 3], [7, 0, 0, 0]]), 25.0).tolist() == pytest.approx([50.0, 0.0])
