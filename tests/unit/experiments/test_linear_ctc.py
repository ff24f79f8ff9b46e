"""Letters that are in the frames are read, those that are not are not."""

import numpy as np
from linear_ctc import letter_error_rate

LETTERS = "abc|"


def spoken(utterances, seed):
    """Texts without doubled letters, and frames in which each letter is one of the unit vectors for two frames."""
    generator, texts, frames = np.random.default_rng(seed), [], []
    for _ in range(utterances):
        numbers = np.cumsum(generator.integers(1, 3, size=4)) % 3
        letters = [LETTERS[number] for number in numbers] + ["|"]
        texts.append(" ".join(letters))
        frames.append(np.repeat(np.eye(4)[[LETTERS.index(letter) for letter in letters]], 2, axis=0))
    return [frame + 0.05 * generator.standard_normal(frame.shape) for frame in frames], texts


def test_letters_in_the_frames_are_read_and_others_are_not():
    (train_x, train_texts), (test_x, test_texts) = spoken(60, 1), spoken(30, 2)
    heard = letter_error_rate(train_x, train_texts, test_x, test_texts, updates=300, lr=3e-2)
    noise = [np.random.default_rng(3).standard_normal(x.shape) for x in train_x]
    deaf = letter_error_rate(noise, train_texts, [0 * x for x in test_x], test_texts, updates=300, lr=3e-2)
    assert heard < 2 and deaf > 50


def test_the_same_seed_gives_the_same_rate():
    (train_x, train_texts), (test_x, test_texts) = spoken(20, 1), spoken(10, 2)
    rates = {letter_error_rate(train_x, train_texts, test_x, test_texts, updates=20, seed=5) for _ in range(2)}
    assert len(rates) == 1
