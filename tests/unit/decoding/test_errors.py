import pytest

from fairseq_birq.decoding.errors import ErrorCounts, count_errors, count_generated, rate


def test_counts_of_a_known_pair():
    counts = count_errors(["the cat sat"], ["the bat  sat on"])
    assert counts == ErrorCounts(word_errors=2, num_words=3, letter_errors=4, num_letters=11)
    assert counts.wer == pytest.approx(66.667) and counts.cer == pytest.approx(36.364)


def test_sums_over_parts_equal_the_whole():
    references, hypotheses = ["a b c", "", "d e"], ["a c", "x", "d e f"]
    parts = [count_errors([reference], [guess]) for reference, guess in zip(references, hypotheses)]
    assert sum(parts, ErrorCounts()) == count_errors(references, hypotheses)


def test_rates_without_words():
    assert rate(0, 0) == 0.0
    assert rate(2, 0) == float("inf")


def test_generated_output_is_counted_by_utterance_with_the_first_hypothesis():
    output = "T-1\ta cat\nH-1\t-0.1\ta | c a t |\nD-1\t-0.1\ta cat\nD-1\t-0.5\ta bat\nT-0\tdogs\nD-0\t-1.0\t\nGenerate test\n"
    counts = count_generated(output)
    assert (counts.word_errors, counts.num_words, counts.letter_errors, counts.num_letters) == (1, 3, 4, 9)
