"""The contract of every decoder in the registry."""

import pytest
import torch

from fairseq_birq.decoding import DECODERS

SYMBOLS = ["<s>", "<pad>", "</s>", "<unk>", "a", "b", "|"]
BLANK, A, B, BOUNDARY = 0, 4, 5, 6


@pytest.fixture(params=sorted(DECODERS))
def decoder(request, tmp_path):
    if request.param == "greedy":
        return DECODERS["greedy"](BLANK, forbidden=(1, 2, 3))
    pytest.importorskip("flashlight.lib.text.decoder", reason="the extra [decode] is not installed")
    lexicon = tmp_path / "lexicon.txt"
    lexicon.write_text("ab\ta b |\nb\tb |\n")
    return DECODERS[request.param](SYMBOLS, blank=BLANK, lexicon=str(lexicon), beam=20)


def certain(path):
    """(T, V) log-probabilities that leave no doubt about a path."""
    log_probs = torch.full((len(path), len(SYMBOLS)), 0.001)
    log_probs[torch.arange(len(path)), torch.tensor(path)] = 1.0
    return log_probs.log_softmax(-1) * 5


def test_certain_scores_give_the_known_answer(decoder):
    path = [BLANK, A, A, BLANK, B, BOUNDARY, BOUNDARY, B, BLANK, BOUNDARY]
    log_probs = certain(path)
    ((best, *_),) = decoder(log_probs[None], torch.tensor([len(path)]))
    assert best.tokens.tolist() == [A, B, BOUNDARY, B, BOUNDARY]
    assert best.token_frames.tolist() == [1, 4, 5, 7, 9]
    assert best.token_ends.tolist() == [3, 5, 7, 8, 10]
    assert best.score == pytest.approx(float(log_probs.max(-1).values.sum()), rel=1e-5)
    assert best.token_scores[0] == pytest.approx(float(log_probs[1, A] + log_probs[2, A]), rel=1e-5)
    assert len(best.tokens) == len(best.token_scores) == len(best.token_frames)


def test_repeated_letters_need_a_blank_between(decoder):
    path = [B, B, BOUNDARY, B, BOUNDARY]
    ((best, *_),) = decoder(certain(path)[None], torch.tensor([5]))
    assert best.tokens.tolist() == [B, BOUNDARY, B, BOUNDARY]


def test_what_lies_behind_the_length_does_not_matter(decoder):
    log_probs = torch.stack([certain([A, B, BOUNDARY, BLANK, BLANK]), certain([B, BOUNDARY, B, BOUNDARY, BLANK])])
    lengths = torch.tensor([3, 4])
    alone = decoder(log_probs, lengths)
    log_probs[0, 3:], log_probs[1, 4:] = torch.randn(2, len(SYMBOLS)), torch.randn(1, len(SYMBOLS))
    for before, after in zip(alone, decoder(log_probs, lengths)):
        assert before[0].tokens.tolist() == after[0].tokens.tolist() and before[0].score == after[0].score


def test_empty_input(decoder):
    assert decoder(torch.zeros(0, 0, len(SYMBOLS)), torch.zeros(0, dtype=torch.long)) == []
    ((best, *_),) = decoder(torch.zeros(1, 4, len(SYMBOLS)), torch.tensor([0]))
    assert best.tokens.tolist() == [] and best.score == 0.0


def test_symbols_that_are_no_letters_never_come_out(decoder):
    log_probs = certain([1, 2, 3, 1, 2])
    ((best, *_),) = decoder(log_probs[None], torch.tensor([5]))
    assert not set(best.tokens.tolist()) & {BLANK, 1, 2, 3}


def test_half_precision_scores_are_taken(decoder):
    path = [A, B, BOUNDARY]
    ((best, *_),) = decoder(certain(path)[None].bfloat16(), torch.tensor([3]))
    assert best.tokens.tolist() == path
