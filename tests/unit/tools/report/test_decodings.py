"""Decodings: alignments of minimal length, errors with a sign, samples from best to worst."""

import random

import editdistance
import pytest

from fairseq_birq.decoding.errors import align, read_generated
from fairseq_birq.tools.report.decodings import decodings_section, evenly


def test_known_alignments():
    assert align("a b c".split(), "a x c d".split()) == [
        ("equal", "a", "a"), ("replace", "b", "x"), ("equal", "c", "c"), ("insert", "", "d")]  # fmt: skip
    assert align(["a"], []) == [("delete", "a", "")]
    assert align([], []) == []


@pytest.mark.parametrize("seed", range(20))
def test_alignments_are_as_short_as_editdistance_says_and_lose_no_word(seed):
    rng = random.Random(seed)
    reference, hypothesis = (rng.choices("abcd", k=rng.randrange(9)) for _ in range(2))
    steps = align(reference, hypothesis)
    assert sum(kind != "equal" for kind, _, _ in steps) == editdistance.eval(reference, hypothesis)
    assert [word for kind, word, _ in steps if kind != "insert"] == reference
    assert [word for kind, _, word in steps if kind != "delete"] == hypothesis


def test_samples_go_from_the_fewest_errors_to_the_most(tmp_path):
    path = tmp_path / "generate-test.txt"
    lines = [f"T-{row}\ta b c d\nD-{row}\t-1\t{' '.join('abcd'[: 4 - row])}" for row in (3, 0, 2, 1)]
    path.write_text("\n".join(lines) + "\nT-10\ta\n")
    shown = decodings_section(path, samples=3)
    texts = ["".join(quote.itertext()).strip() for quote in shown.iter("blockquote")]
    assert texts == [
        "a b c d utterance 0, errors: 0, words: 4",
        "a b −c −d utterance 2, errors: 2, words: 4",
        "−a utterance 10, errors: 1, words: 1",
    ]
    assert "5 utterances: word error rate 41.2 %" in "".join(shown.itertext())
    assert [node.text for node in shown.iter("del")] == ["−word", "−c", "−d", "−a"]


def test_evenly():
    assert evenly(list(range(10)), 4) == [0, 3, 6, 9] and evenly([1, 2], 8) == [1, 2] and evenly([1, 2, 3], 1) == [1]


def test_the_first_decoding_of_an_utterance_counts():
    assert read_generated("T-1\tx y\nD-1\t0\tx\nD-1\t0\ty\nT-2\tz\n") == {"1": ("x y", "x"), "2": ("z", "")}
