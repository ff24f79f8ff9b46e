"""Measures of code health on histograms with known answers."""

import math

import pytest
import torch

from fairseq_birq.errors import UserError
from fairseq_birq.objective.code_health import (
    Churn,
    CollapseAlarm,
    bits_per_second,
    entropy,
    perplexity,
    repeated_share,
    top_share,
    used_share,
)


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


def test_churn_compares_a_batch_with_itself_only():
    churn, codes = Churn(), torch.tensor([[0, 1], [2, 3], [4, 5]])
    assert churn.of_batch("raw_input", "first", codes)[1] == 0
    changed, compared = churn.of_batch("raw_input", "first", torch.tensor([[0, 1], [2, 0], [0, 0]]))
    assert float(changed) == 1.5 and compared == 3  # half of one frame's codes and all of another's
    assert churn.of_batch("raw_input", "second", codes)[1] == churn.of_batch("own_layer", "first", codes)[1] == 0
    assert churn.of_batch("raw_input", "first", codes[:2])[1] == 0  # other frames


def test_the_alarm_rings_for_one_source_after_updates_in_a_row_and_begins_to_count_again():
    alarm = CollapseAlarm(min_perplexity=1.5, patience=2, stop=True)
    few, many, none = torch.tensor([[8, 0]]), torch.tensor([[4, 4]]), torch.tensor([[0, 0]])
    alarm.watch({"raw_input": few, "own_layer": many})
    alarm.watch({"raw_input": many, "own_layer": few})
    alarm.watch({"raw_input": few, "own_layer": none})  # nothing counted says nothing
    with pytest.raises(UserError, match="`own_layer` have collapsed"):
        alarm.watch({"own_layer": few})
    alarm.watch({"own_layer": few})
    CollapseAlarm(min_perplexity=0.0, patience=1, stop=True).watch({"raw_input": few})
