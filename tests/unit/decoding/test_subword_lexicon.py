"""Words of subword units, against all paths of a small problem."""

import itertools

import pytest
import torch

from fairseq_birq.decoding import lexicon_decoder
from fairseq_birq.decoding.subword_lexicon import SubwordLexiconDecoder
from fairseq_birq.errors import UserError

SYMBOLS = ["<s>", "<pad>", "</s>", "<unk>", "▁a", "b", "▁b"]
BLANK, A, INNER_B, B = 0, 4, 5, 6
SPELLINGS = {"a": ["▁a"], "ab": ["▁a b"], "b": ["▁b"], "bb": ["▁b b"], "x": ["▁a b b", "▁b b b"]}
ARPA = """\\data\\
ngram 1=7
ngram 2=4

\\1-grams:
-2.0\t<unk>\t0
-99\t<s>\t-0.3
-1.0\t</s>\t0
-0.7\ta\t-0.2
-0.9\tab\t-0.1
-0.5\tb\t-0.4
-1.5\tbb\t-0.3

\\2-grams:
-0.2\t<s> ab
-0.1\ta b
-0.6\tb a
-0.3\tab </s>

\\end\\
"""


@pytest.fixture
def lexicon(tmp_path):
    path = tmp_path / "lexicon.txt"
    path.write_text("".join(f"{word}\t{spelt}\n" for word, spellings in SPELLINGS.items() for spelt in spellings))
    return path


def sentences(path):
    """Words that a path of frames spells, in every way; none where it spells anything that the lexicon lacks."""
    units = [SYMBOLS[symbol] for symbol, _ in itertools.groupby(path) if symbol != BLANK]
    starts = [place for place, unit in enumerate(units) if unit.startswith("▁")]
    if units and (not starts or starts[0]):
        return []
    spelt = [" ".join(units[begin:end]) for begin, end in zip(starts, [*starts[1:], len(units)])]
    return itertools.product(*([word for word, spellings in SPELLINGS.items() if each in spellings] for each in spelt))


def bigram(words):
    """log10-probability of a sentence by ARPA, with back-off."""
    known, backoff = {}, {}
    for line in ARPA.splitlines():
        fields = line.split("\t")
        if len(fields) > 1:
            known[tuple(fields[1].split())] = float(fields[0])
            backoff[fields[1]] = float(fields[2]) if len(fields) > 2 else 0.0
    known_words = [word if (word,) in known else "<unk>" for word in (*words, "</s>")]
    pairs = zip(["<s>", *known_words], known_words)
    return sum(known.get(pair, backoff[pair[0]] + known[pair[1:]]) for pair in pairs)


def brute_force(log_probs, lm_weight, word_score):
    """Best score of every word sequence, over all paths: (words, score), best first."""
    best = {}
    for path in itertools.product((BLANK, A, INNER_B, B), repeat=len(log_probs)):
        for words in sentences(path):
            score = float(log_probs[torch.arange(len(path)), torch.tensor(path)].double().sum())
            score += word_score * len(words) + (lm_weight * bigram(words) if lm_weight else 0.0)
            best[words] = max(score, best.get(words, -float("inf")))
    return sorted(best.items(), key=lambda item: -item[1])


@pytest.mark.parametrize("lm_weight, word_score", [(0.0, 0.0), (1.5, -0.5), (3.0, 4.0)])
def test_agrees_with_brute_force(lexicon, tmp_path, lm_weight, word_score):
    settings = {}
    if lm_weight:
        pytest.importorskip("flashlight.lib.text.decoder", reason="the extra [decode] is not installed")
        (tmp_path / "lm.arpa").write_text(ARPA)
        settings = dict(kenlm=str(tmp_path / "lm.arpa"), lm_weight=lm_weight)
    decoder = SubwordLexiconDecoder(
        SYMBOLS, blank=BLANK, lexicon=lexicon, word_score=word_score, beam=500, beam_threshold=1e4, nbest=4, **settings
    )
    lengths = set()
    for seed in range(6):
        scores = 2 * torch.randn(5, len(SYMBOLS), generator=torch.Generator().manual_seed(seed))
        log_probs = scores.log_softmax(-1)
        expected = brute_force(log_probs, lm_weight, word_score)[:4]
        (found,) = decoder(log_probs[None], torch.tensor([5]))
        assert [tuple(each.words) for each in found] == [words for words, _ in expected]
        assert [each.score for each in found] == pytest.approx([score for _, score in expected], abs=1e-3)
        for each in found:
            spelt = [symbol for token in each.tokens.tolist() for symbol in (token, BLANK)]
            assert tuple(each.words) in list(sentences(spelt))
        lengths.add(len(found[0].words))
    assert len(lengths) > 1


def certain(path):
    """(T, V) log-probabilities that leave no doubt about a path."""
    log_probs = torch.full((len(path), len(SYMBOLS)), -20.0)
    log_probs[torch.arange(len(path)), torch.tensor(path)] = -0.01
    return log_probs


def test_the_last_unit_of_a_word_may_last(lexicon):
    path = [A, A, A, BLANK, A, A, INNER_B, INNER_B, B, B]
    ((best,),) = SubwordLexiconDecoder(SYMBOLS, blank=BLANK, lexicon=lexicon)(certain(path)[None], torch.tensor([len(path)]))
    assert best.words == ["a", "ab", "b"] and best.score == pytest.approx(-0.1)
    assert best.tokens.tolist() == [A, A, INNER_B, B] and best.token_ends.tolist() == [3, 6, 8, 10]


def test_a_recording_that_ends_inside_a_word_keeps_the_words_before(lexicon):
    lexicon.write_text("a\t▁a\nbb\t▁b b\n")
    path = [A, A, BLANK, B, B, BLANK]
    ((best,),) = SubwordLexiconDecoder(SYMBOLS, blank=BLANK, lexicon=lexicon, beam_threshold=5)(
        certain(path)[None], torch.tensor([len(path)])
    )
    assert best.words == ["a"] and best.tokens.tolist() == [A] and best.token_ends.tolist() == [2]


@pytest.mark.parametrize(
    "content, said",
    [
        ("ab\t▁a b\nb\tb\n", "'b' is spelt 'b', but '▁' must begin the first unit of a word and no other; `birq-subwords`"),
        ("ab\t▁a ▁b\n", "'ab' is spelt '▁a ▁b'"),
        ("a\ta |\n", "line 1: 'a' is spelt with 'a', which the dictionary lacks"),
        ("a\n", "line 1: 'a' has no spelling; write `word<TAB>▁un its`"),
    ],
)
def test_a_lexicon_that_does_not_fit(lexicon, content, said):
    lexicon.write_text(content)
    with pytest.raises(UserError, match="lexicon.txt") as refused:
        SubwordLexiconDecoder(SYMBOLS, blank=BLANK, lexicon=lexicon)
    assert said in str(refused.value)


def test_the_symbols_choose_the_decoder(lexicon):
    assert isinstance(lexicon_decoder(SYMBOLS, BLANK, lexicon=lexicon, word_score=-1.0), SubwordLexiconDecoder)
    with pytest.raises(UserError, match="--sil-weight 0.5 would have no effect"):
        lexicon_decoder(SYMBOLS, BLANK, lexicon=lexicon, sil_weight=0.5)
