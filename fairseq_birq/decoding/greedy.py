"""Greedy decoding: the best symbol of every frame."""

from typing import List, Optional, Sequence

import torch
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


class GreedyStream:
    """The same of frames as they come.

    Args:
        blank, forbidden: see `GreedyDecoder`.
    """

    def __init__(self, blank: int, forbidden: Sequence[int] = ()):
        self.blank = blank
        self.forbidden = list(forbidden)
        self.num_frames = 0
        self._last = blank  # symbol of the last frame
        self._score = 0.0
        self._runs: List[List] = []  # symbol, sum of its frames' scores, first frame, frame after the last

    def push(self, log_probs: Tensor) -> bool:
        """The next frames, (T, V) float natural log-probabilities; whether they begin a symbol."""
        log_probs = log_probs.detach().float().cpu()
        allowed, before = log_probs.clone(), len(self._runs)
        allowed[:, self.forbidden] = -float("inf")
        scores, path = allowed.max(-1)
        for symbol, score in zip(path.tolist(), scores.tolist()):
            if symbol != self.blank and symbol == self._last:
                self._runs[-1][1] += score
                self._runs[-1][3] += 1
            elif symbol != self.blank:
                self._runs.append([symbol, score, self.num_frames, self.num_frames + 1])
            self._last, self._score, self.num_frames = symbol, self._score + score, self.num_frames + 1
        return len(self._runs) > before

    def hypothesis(self, last: Optional[int] = None) -> Hypothesis:
        """What is found so far, or its last symbols."""
        runs = self._runs if last is None else self._runs[-last:]
        symbols, scores, frames, ends = zip(*runs) if runs else ((),) * 4
        return Hypothesis(
            tokens=torch.tensor(symbols, dtype=torch.long),
            score=self._score,
            token_scores=torch.tensor(scores, dtype=torch.float32),
            token_frames=torch.tensor(frames, dtype=torch.long),
            token_ends=torch.tensor(ends, dtype=torch.long),
        )
