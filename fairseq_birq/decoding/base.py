"""What a decoder gives, and how a path of frames becomes symbols."""

from dataclasses import dataclass
from typing import List, Optional, Sequence, Union

import torch
from torch import Tensor


@dataclass
class Hypothesis:
    """One transcript of one utterance. L symbols, none of them blank."""

    tokens: Tensor  # (L,) int64, symbols of the dictionary
    score: float  # natural log-probability of the path, with language model and word scores where the decoder has them
    token_scores: Tensor  # (L,) float, log-probability of the frames that belong to each symbol
    token_frames: Tensor  # (L,) int64, first frame of each symbol
    words: Optional[List[str]] = None  # of decoders that know words
    token_ends: Optional[Tensor] = None  # (L,) int64, frame after the last of each symbol


class Decoder:
    """Contract of every decoder: n-best lists from scores.

    Args of the call:
        log_probs: (B, T, V) float, natural log-probabilities.
        lengths: (B,) int64, frames of each utterance; what lies behind them must not matter.
    Returns:
        per utterance a list of at least one and at most `nbest` hypotheses, best first.
    """

    def __call__(self, log_probs: Tensor, lengths: Tensor) -> List[List[Hypothesis]]:
        log_probs = log_probs.detach().float().cpu()
        return [self.decode_one(row[:length]) for row, length in zip(log_probs, lengths.tolist())]

    def decode_one(self, log_probs: Tensor) -> List[Hypothesis]:
        """log_probs: (T, V) float on the CPU; T may be 0."""
        raise NotImplementedError


def collapse(
    path: Union[Sequence[int], Tensor],
    log_probs: Tensor,
    blank: int,
    words: Optional[List[str]] = None,
    score: Optional[float] = None,
) -> Hypothesis:
    """Merge repeats and drop blanks (Graves et al. 2006, section 3.1).

    path: one symbol per frame; log_probs: (T, V) float. `score` defaults to the path's log-probability.
    """
    symbols = torch.as_tensor(path, dtype=torch.long)
    frame_scores = log_probs[torch.arange(len(symbols)), symbols]
    starts = torch.ones(len(symbols), dtype=torch.bool)
    starts[1:] = symbols[1:] != symbols[:-1]
    run_scores = torch.zeros(int(starts.sum())).index_add_(0, starts.cumsum(0) - 1, frame_scores)
    first = starts.nonzero().flatten()
    ends = torch.cat([first[1:], torch.tensor([len(symbols)])[: len(first)]])
    kept = symbols[starts] != blank
    return Hypothesis(
        tokens=symbols[starts][kept],
        score=float(frame_scores.double().sum()) if score is None else score,
        token_scores=run_scores[kept],
        token_frames=first[kept],
        words=words,
        token_ends=ends[kept],
    )


def frames_needed(targets: Tensor, lengths: Tensor) -> Tensor:
    """CTC frames that a target takes at least: its letters, and a blank between equal neighbours.

    targets: (B, L) int64, lengths: (B,) int64 -> (B,) int64.
    """
    repeats = targets[:, 1:] == targets[:, :-1]
    inside = torch.arange(1, max(targets.shape[1], 1), device=targets.device)[None, :] < lengths[:, None]
    return lengths + (repeats & inside).sum(1)
