"""The symbols that a fine-tuned model scores, and what they mean."""

from typing import List, Optional, Sequence

from torch import Tensor

from fairseq_birq.data.transcripts import are_subwords, text_of
from fairseq_birq.decoding.greedy import GreedyDecoder


class Alphabet:
    """fairseq's four special symbols, the first of which is CTC's blank, and after them letters or subword units.

    unit_scores: log-probabilities of the subword units, for exports
    """

    blank, pad = 0, 1
    no_letters = (1, 2, 3)

    def __init__(self, symbols: Sequence[str], unit_scores: Optional[List[float]] = None):
        self.symbols: List[str] = list(symbols)
        self.unit_scores = unit_scores
        self.indices = {symbol: index for index, symbol in enumerate(self.symbols)}
        self.has_subwords = are_subwords(self.symbols)
        self.greedy_decoder = GreedyDecoder(self.blank, self.no_letters)

    def __len__(self):
        return len(self.symbols)

    def text(self, tokens: Tensor) -> str:
        """Words of (L,) symbols, separated by single spaces."""
        return text_of((self.symbols[token] for token in tokens.tolist()), self.has_subwords)
