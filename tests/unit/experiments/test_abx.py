"""ABX against planted frames whose error rate is known."""

import numpy as np
import pytest
from abx import draw_triples, error_rate, find_tokens, padded, token_distances

SILENCE = 9
UTTERANCE = [0, 0, 9, 1, 1, 1, 9, 0, 0, 0, 9, 1, 1]


def corpus(vector, utterances=6):
    """Two speakers say letters 0 and 1; `vector(speaker, letter)` is every frame of one."""
    letters = [np.array(UTTERANCE)] * utterances
    speakers = [f"speaker{number % 2}" for number in range(utterances)]
    frames = [np.stack([vector(number % 2, letter) for letter in row]).astype(np.float32) for number, row in enumerate(letters)]
    return letters, speakers, frames


def errors(vector):
    letters, speakers, frames = corpus(vector)
    tokens = find_tokens(letters, speakers, SILENCE)
    return tuple(error_rate(frames, draw_triples(tokens, across, each=20)) for across in (False, True))


def test_letters_that_differ_are_told_apart_within_and_across_speakers():
    assert errors(lambda speaker, letter: np.eye(10)[letter]) == (0, 0)


def test_speakers_who_swap_the_letters_are_right_within_and_wrong_across():
    assert errors(lambda speaker, letter: np.eye(10)[letter ^ speaker if letter < 2 else letter]) == (0, 100)


def test_frames_that_say_nothing_are_right_half_of_the_time():
    assert errors(lambda speaker, letter: np.ones(10)) == (50, 50)


def test_one_letter_that_looks_like_either_gives_the_mean_of_its_pairs():
    """Letter 1's frames lie between letter 0's and their opposite in speaker 1 only, so that X = 0 across is nearer to B."""

    def vector(speaker, letter):
        return np.array([1.0, 0.0]) if (speaker, letter) != (1, 1) else np.array([-1.0, 0.0])

    # within: speaker 0's letters are equal (50 %), speaker 1's differ (0 %): 25 % in both pairs
    # across, pair (0, 1): A, B of speaker 0, X = 0 of speaker 1: tie, 50 %; A, B of speaker 1, X = 0 of speaker 0: 0 %
    # across, pair (1, 0): A, B of speaker 0, X = 1 of speaker 1: tie, 50 %; A, B of speaker 1, X = 1 of speaker 0: 100 %
    assert errors(vector) == pytest.approx((25, (25 + 75) / 2))


def test_time_warping_against_a_hand_made_path():
    x, y = np.eye(3, dtype=np.float32)[[0]], np.eye(3, dtype=np.float32)[[0, 1]]
    found = token_distances(padded([x, x, y]), padded([y, np.repeat(x, 4, axis=0), y]))
    assert found == pytest.approx([0.5 / 3, 0, 0], abs=1e-3)  # one step of a right angle, over 1 + 2 frames


def test_tokens_are_runs_of_two_frames_or_more():
    letters = [np.array([0, 1, 1, 9, 9, 1, 1, 1])] * 5
    tokens = find_tokens(letters, ["a"] * 5, SILENCE)
    assert set(tokens) == {(1, "a")} and tokens[1, "a"][:2] == [(0, 1, 3), (0, 5, 8)]


def test_triples_are_the_same_again_and_never_compare_a_token_with_itself():
    letters, speakers, _ = corpus(lambda speaker, letter: np.eye(10)[letter])
    tokens = find_tokens(letters, speakers, SILENCE)
    first, second = draw_triples(tokens, False), draw_triples(tokens, False)
    assert first == second and all(a != x for _, _, a, _, x in first)
