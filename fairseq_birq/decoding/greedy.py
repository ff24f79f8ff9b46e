"""Greedy decoding: the best symbol of every frame."""

from typing import List, Sequence

from torch import Tensor

from fairseq_birq.decoding.base import Decoder, Hypothesis, collapse


class GreedyDecoder(Decoder):
    """Best path decoding (Graves et al. 2006, section 3.2); always one hypothesis.

    Args:
        blank: index of CTC's blank.
        forbidden: symbols that are no letters (padding, end of sentence, unknown).
    """

    def __init__(self, blank: int, forbidden: Sequence[int] = ()):
        self.blank = blank
        self.forbidden = list(forbidden)

    def decode_one(self, log_probs: Tensor) -> List[Hypothesis]:
        allowed = log_probs.clone()
        allowed[:, self.forbidden] = -float("inf")
        return [collapse(allowed.argmax(-1), log_probs, self.blank)]
