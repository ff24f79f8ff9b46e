import itertools
import sys

import pytest
import torch

from fairseq_birq.decoding.lexicon import LexiconDecoder, read_lexicon
from fairseq_birq.errors import UserError

SYMBOLS = ["<s>", "<pad>", "</s>", "<unk>", "a", "b", "|"]
BLANK, A, B, BOUNDARY = 0, 4, 5, 6
LEXICON = "a\ta |\nab\ta b |\nba\tb a |\naa\ta a |\n"
NUM_FRAMES = 6
ARPA = """\\data\\
ngram 1=7
ngram 2=4

\\1-grams:
-2.0\t<unk>\t0
-99\t<s>\t-0.3
-1.0\t</s>\t0
-0.7\ta\t-0.2
-0.9\tab\t-0.1
-0.5\tba\t-0.4
-1.5\taa\t-0.3

\\2-grams:
-0.2\t<s> ab
-0.1\ta ba
-0.6\tba a
-0.3\tab </s>

\\end\\
"""


@pytest.fixture
def files(tmp_path):
    (tmp_path / "lexicon.txt").write_text(LEXICON)
    (tmp_path / "lm.arpa").write_text(ARPA)
    return tmp_path


def flashlight_decoder(files, **settings):
    pytest.importorskip("flashlight.lib.text.decoder", reason="the extra [decode] is not installed")
    return LexiconDecoder(SYMBOLS, blank=BLANK, lexicon=str(files / "lexicon.txt"), **settings)


def words_of(path):
    """Words that a path of frames spells, or None where it spells anything that the lexicon lacks."""
    letters = [symbol for symbol, _ in itertools.groupby(path) if symbol != BLANK]
    spelt = "".join(SYMBOLS[letter] for letter in letters)
    if spelt and not spelt.endswith("|"):
        return None
    words = tuple(word for word in spelt.split("|") if word)
    known = {line.split("\t")[0] for line in LEXICON.splitlines()}
    return words if known.issuperset(words) else None


def brute_force(log_probs, lm_score, lm_weight, word_score, sil_weight):
    """Best score of every word sequence, over all paths: (words, score), best first."""
    best = {}
    for path in itertools.product((BLANK, A, B, BOUNDARY), repeat=len(log_probs)):
        words = words_of(path)
        if words is None:
            continue
        score = float(log_probs[torch.arange(len(path)), torch.tensor(path)].double().sum())
        score += sil_weight * path.count(BOUNDARY) + word_score * len(words) + lm_weight * lm_score(words)
        best[words] = max(score, best.get(words, -float("inf")))
    return sorted(best.items(), key=lambda item: -item[1])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "lm_weight, word_score, sil_weight", [(0.0, 0.0, 0.0), (1.5, -0.5, 0.0), (3.0, 2.0, 0.7), (0.7, 4.0, -1.0)]
)
def test_agrees_with_brute_force(files, seed, lm_weight, word_score, sil_weight):
    kenlm = pytest.importorskip("kenlm", reason="needs the Python module kenlm as a reference: pip install kenlm")
    model = kenlm.Model(str(files / "lm.arpa"))
    scores = 2 * torch.randn(NUM_FRAMES, len(SYMBOLS), generator=torch.Generator().manual_seed(seed))
    log_probs = scores.log_softmax(-1)
    weights = dict(lm_weight=lm_weight, word_score=word_score, sil_weight=sil_weight)
    expected = brute_force(log_probs, lambda words: model.score(" ".join(words), bos=True, eos=True), **weights)
    decoder = flashlight_decoder(files, kenlm=str(files / "lm.arpa"), beam=500, beam_threshold=1e4, nbest=3, **weights)
    found = decoder(log_probs[None], torch.tensor([NUM_FRAMES]))[0]
    assert tuple(found[0].words) == expected[0][0]
    assert found[0].score == pytest.approx(expected[0][1], abs=1e-3)
    assert "".join(SYMBOLS[token] for token in found[0].tokens) == "".join(f"{word}|" for word in expected[0][0])


def test_nbest_is_sorted_and_bounded(files):
    log_probs = torch.randn(1, 8, len(SYMBOLS), generator=torch.Generator().manual_seed(1)).log_softmax(-1)
    found = flashlight_decoder(files, beam=50, nbest=5)(log_probs, torch.tensor([8]))[0]
    scores = [hypothesis.score for hypothesis in found]
    assert len(found) == 5 and scores == sorted(scores, reverse=True)


def test_nbest_lists_different_transcripts(files):
    log_probs = torch.randn(1, 8, len(SYMBOLS), generator=torch.Generator().manual_seed(1)).log_softmax(-1)
    found = flashlight_decoder(files, beam=50, nbest=5)(log_probs, torch.tensor([8]))[0]
    assert len({tuple(hypothesis.words) for hypothesis in found}) == 5


def test_a_word_with_two_spellings(files):
    (files / "lexicon.txt").write_text("x\ta |\nx\tb b |\n")
    path = [B, BLANK, B, BOUNDARY]
    log_probs = torch.full((1, 4, len(SYMBOLS)), -9.0)
    log_probs[0, torch.arange(4), torch.tensor(path)] = -0.01
    ((best, *_),) = flashlight_decoder(files)(log_probs, torch.tensor([4]))
    assert best.words == ["x"] and best.tokens.tolist() == [B, B, BOUNDARY]


INDICES = {symbol: index for index, symbol in enumerate(SYMBOLS)}


@pytest.mark.parametrize(
    "content, message",
    [
        ("a\ta |\nac\ta c |\n", r"lexicon.txt, line 2: 'ac' is spelt with 'c', which the dictionary lacks"),
        ("a\ta |\n\nab\n", r"lexicon.txt, line 3: 'ab' has no spelling"),
        ("\n", r"lexicon.txt: has no words"),
    ],
)
def test_a_bad_lexicon_names_file_and_line(tmp_path, content, message):
    (tmp_path / "lexicon.txt").write_text(content)
    with pytest.raises(UserError, match=message):
        read_lexicon(str(tmp_path / "lexicon.txt"), INDICES)


@pytest.mark.parametrize("path", [None, "nowhere.txt"])
def test_a_missing_lexicon(path):
    with pytest.raises(UserError, match="does not exist.*--lexicon"):
        read_lexicon(path, INDICES)


def test_a_missing_or_broken_language_model(files):
    with pytest.raises(UserError, match="nowhere.arpa does not exist"):
        flashlight_decoder(files, kenlm="nowhere.arpa")
    (files / "broken.arpa").write_text("no language model")
    with pytest.raises(UserError, match="broken.arpa cannot be read by KenLM: ") as refused:
        flashlight_decoder(files, kenlm=str(files / "broken.arpa"))
    assert "threw" not in str(refused.value) and ".cc" not in str(refused.value)  # the place in KenLM's source
    (files / "unigram.arpa").write_text("\\data\\\nngram 1=1\n\n\\1-grams:\n-1\ta\n\n\\end\\\n")
    with pytest.raises(UserError, match="at least a bigram model"):
        flashlight_decoder(files, kenlm=str(files / "unigram.arpa"))


def test_letters_that_the_dictionary_lacks_are_counted(tmp_path):
    (tmp_path / "lexicon.txt").write_text("a\ta |\nac\ta c |\nbad\tb a d |\ncc\tc c |\n")
    with pytest.raises(UserError, match=r"In all 3 of 4 lines have letters that it lacks: 'c', 'd'\."):
        read_lexicon(str(tmp_path / "lexicon.txt"), INDICES)


@pytest.fixture(params=["arpa", "scores"])
def how_words_are_found(request, monkeypatch):
    """`scores` stands for a binary, whose words cannot be read."""
    if request.param == "scores":
        monkeypatch.setattr("fairseq_birq.decoding.lexicon.arpa_words", lambda path: None)


def test_lexicon_words_that_the_language_model_lacks_are_counted(files, caplog, how_words_are_found):
    (files / "lexicon.txt").write_text(LEXICON + "bb\tb b |\nbab\tb a b |\nbab\tb a a b |\n")
    flashlight_decoder(files, kenlm=str(files / "lm.arpa"))
    assert "2 of the 6 words of" in caplog.text and "as 'bb', 'bab' (33.3 %)" in caplog.text


def test_a_language_model_of_all_lexicon_words_is_not_worth_a_word(files, caplog, how_words_are_found):
    flashlight_decoder(files, kenlm=str(files / "lm.arpa"))
    assert not caplog.text


def test_a_language_model_without_any_lexicon_word(files, how_words_are_found):
    (files / "lexicon.txt").write_text("A\ta |\nAB\ta b |\nBA\tb a |\nAA\ta a |\n")
    with pytest.raises(UserError, match=r"4 of the 4 words of .*lexicon.txt are not in the language model .*same case"):
        flashlight_decoder(files, kenlm=str(files / "lm.arpa"))


@pytest.mark.parametrize(
    "settings, message",
    [({"beam": 2, "nbest": 3}, "raise it"), ({"beam_size_token": -1}, "at least 0"), ({"beam_threshold": 0.0}, "above 0")],
)
def test_settings_out_of_range(files, settings, message):
    with pytest.raises(UserError, match=message):
        flashlight_decoder(files, **settings)


def test_without_flashlight_the_message_says_what_to_install(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "flashlight.lib.text", None)
    monkeypatch.setitem(sys.modules, "flashlight.lib.text.decoder", None)
    with pytest.raises(UserError, match=r"pip install 'fairseq_birq\[decode\]'"):
        LexiconDecoder(SYMBOLS, blank=BLANK, lexicon=str(files / "lexicon.txt"))


def test_a_dictionary_without_word_boundary(files):
    pytest.importorskip("flashlight.lib.text.decoder", reason="the extra [decode] is not installed")
    with pytest.raises(UserError, match=r"lacks '\|', the word boundary"):
        LexiconDecoder(SYMBOLS[:-1], blank=BLANK, lexicon=str(files / "lexicon.txt"))
