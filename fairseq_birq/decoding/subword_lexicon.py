"""Beam search over the words of a lexicon of subword units, with an n-gram language model: our own search, KenLM's scores.

flashlight's search (`lexicon.py`) wants a symbol after every word. SentencePiece's words have none: there the last unit of a
word could not last longer than one frame. Here it may, so that every CTC path of a word counts.
"""

import heapq
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any, Dict, List, Optional, Sequence, Tuple

from torch import Tensor

from fairseq_birq.data.transcripts import WORD_BEGIN, are_subwords
from fairseq_birq.decoding.base import Decoder, Hypothesis, collapse
from fairseq_birq.decoding.lexicon import check_beam, read_lexicon
from fairseq_birq.decoding.word_model import NoWordModel, WordModel
from fairseq_birq.errors import UserError

SPELLING = f"word<TAB>{WORD_BEGIN}un its"
_score = attrgetter("score")


@dataclass(eq=False)
class _Node:
    """A place in the words' spellings. best: log10 of the likeliest word below, as the first one of a sentence."""

    number: int
    best: float = -float("inf")
    children: "Dict[int, _Node]" = field(default_factory=dict)
    words: List[str] = field(default_factory=list)


@dataclass(eq=False)
class _Path:
    """A hypothesis after some frames. Its words and frames are linked lists, last one first."""

    score: float
    node: _Node
    history: int  # of the language model
    last: int  # symbol of the last frame
    frames: Optional[Tuple[int, Any]]
    words: Optional[Tuple[str, Any]]
    whole: int  # frames up to the first one of the last whole word's last unit


class SubwordLexiconDecoder(Decoder):
    """Words of a lexicon that maximise, over words W and their CTC paths p (the best path, not the sum),

        log P(p) + lm_weight x log10 P_lm(W) + word_score x |W|.

    Args:
        symbols: the dictionary, in the order of the emissions.
        blank: index of CTC's blank.
        lexicon: file of `word<TAB>▁un its`, as `birq-subwords` writes it; several lines for a word with several spellings.
        kenlm, lm_weight, word_score, beam, beam_size_token, beam_threshold, nbest: as in `LexiconDecoder`.

    Raises:
        UserError: as `LexiconDecoder`, but flashlight-text is wanted for a language model only; a spelling does not begin with
            the mark of a word's beginning, or has it inside.
    """

    def __init__(
        self,
        symbols: Sequence[str],
        blank: int,
        lexicon: Optional[str],
        kenlm: Optional[str] = None,
        lm_weight: float = 0.0,
        word_score: float = 0.0,
        beam: int = 50,
        beam_size_token: int = 0,
        beam_threshold: float = 50.0,
        nbest: int = 1,
    ):
        check_beam(beam, nbest, beam_size_token, beam_threshold)
        self.blank, self.beam, self.nbest = blank, beam, nbest
        self.num_tokens = min(beam_size_token or len(symbols), len(symbols))
        self.beam_threshold, self.lm_weight, self.word_score = beam_threshold, lm_weight, word_score
        spellings = read_lexicon(lexicon, {symbol: index for index, symbol in enumerate(symbols)}, SPELLING)
        if are_subwords(symbols):
            _check_marks(lexicon, spellings, symbols)
        self.model = WordModel(kenlm, list(spellings), lexicon) if kenlm else NoWordModel()
        self.root = self._spelling_tree(spellings)

    def _spelling_tree(self, spellings) -> _Node:
        root, number = _Node(0, best=0.0), 0
        for word, variants in spellings.items():
            likelihood = self.model.score(self.model.start, word)[1]
            for spelling in variants:
                node = root
                for token in spelling:
                    if token not in node.children:
                        number += 1
                        node.children[token] = _Node(number)
                    node = node.children[token]
                    node.best = max(node.best, likelihood)
                node.words.append(word)
        return root

    def decode_one(self, log_probs: Tensor) -> List[Hypothesis]:
        if len(log_probs) == 0:
            return [collapse([], log_probs, self.blank, words=[], score=0.0)]
        self.model.restart()
        paths = [_Path(0.0, self.root, self.model.start, self.blank, None, None, 0)]
        ranked = log_probs.argsort(-1, descending=True)[:, : self.num_tokens].tolist()
        for time, (emissions, tokens) in enumerate(zip(log_probs.tolist(), ranked), start=1):
            paths = self._step(paths, emissions, [token for token in tokens if token != self.blank], time)
        return self._hypotheses(paths, log_probs)

    def _step(self, paths: List[_Path], emissions: List[float], tokens: List[int], time: int) -> List[_Path]:
        """The best paths of one frame more, the `time`-th. tokens: that may begin here, the likeliest first."""
        found: Dict[Tuple[int, int, int], _Path] = {}
        for path in paths:
            for token in {self.blank, path.last}:
                _offer(found, replace(path, score=path.score + emissions[token], last=token, frames=(token, path.frames)))
        best = heapq.nlargest(self.beam, map(_score, found.values()))
        floor = best[0] - self.beam_threshold if len(best) < self.beam else max(best[-1], best[0] - self.beam_threshold)
        for path in paths:
            gain = max(self.word_score, 0.0) + self._most_gain(path.node)
            for token in tokens:
                if path.score + emissions[token] + gain < floor:
                    break
                child = path.node.children.get(token)
                if child is not None and token != path.last:
                    self._enter(found, path, child, token, path.score + emissions[token], time)
        kept = heapq.nlargest(self.beam, found.values(), key=_score)
        return [path for path in kept if path.score >= kept[0].score - self.beam_threshold]

    def _most_gain(self, node: _Node) -> float:
        """The most that the language model can add to a path from here: the next word's log10-probability is at most 0."""
        return -self.lm_weight * node.best if self.lm_weight >= 0 else float("inf")

    def _enter(self, found, path: _Path, child: _Node, token: int, score: float, time: int) -> None:
        """The first frame of a unit: inside a word, and where the unit may be a word's last one."""
        frames = (token, path.frames)
        if child.children:
            inside = score + self.lm_weight * (child.best - path.node.best)
            _offer(found, _Path(inside, child, path.history, token, frames, path.words, path.whole))
        for word in child.words:
            history, likelihood = self.model.score(path.history, word)
            whole = score + self.lm_weight * (likelihood - path.node.best) + self.word_score
            _offer(found, _Path(whole, self.root, history, token, frames, (word, path.words), time))

    def _hypotheses(self, paths: List[_Path], log_probs: Tensor) -> List[Hypothesis]:
        """Whole words alone: a path that ends inside a word gives up that word, where no other is left."""
        whole = [path for path in paths if path.node is self.root]
        results: Dict[Tuple[str, ...], Hypothesis] = {}
        for path in sorted(whole or paths[:1], key=lambda path: -self._total(path)):
            words, frames = _listed(path.words), _listed(path.frames)
            if path.node is not self.root:
                results[()] = collapse(_begun(frames, path.whole, self.blank), log_probs, self.blank, words)
            elif tuple(words) not in results:
                results[tuple(words)] = collapse(frames, log_probs, self.blank, words, self._total(path))
        return list(results.values())[: self.nbest]

    def _total(self, path: _Path) -> float:
        return path.score + self.lm_weight * self.model.end(path.history)


def _offer(found: Dict[Tuple[int, int, int], _Path], path: _Path) -> None:
    """Of paths that go on in the same way, the best one stays."""
    key = (path.node.number, path.history, path.last)
    if key not in found or path.score > found[key].score:
        found[key] = path


def _listed(links) -> list:
    values = []
    while links is not None:
        value, links = links
        values.append(value)
    return values[::-1]


def _begun(frames: List[int], whole: int, blank: int) -> List[int]:
    """A path up to the end of its last whole word, whose last unit begins in the frame before `whole`; then blanks."""
    while 0 < whole < len(frames) and frames[whole] == frames[whole - 1]:
        whole += 1
    return frames[:whole] + [blank] * (len(frames) - whole)


def _check_marks(path, spellings: Dict[str, List[List[int]]], symbols: Sequence[str]) -> None:
    """Raises UserError for a spelling that would run into the word before it, or be two words."""
    for word, variants in spellings.items():
        for spelling in variants:
            marked = [symbols[token].startswith(WORD_BEGIN) for token in spelling]
            if not marked[0] or any(marked[1:]):
                spelt = " ".join(symbols[token] for token in spelling)
                raise UserError(
                    f"{path}: {word!r} is spelt {spelt!r}, but {WORD_BEGIN!r} must begin the first unit of a word and no other; "
                    "`birq-subwords` writes such a lexicon"
                )
