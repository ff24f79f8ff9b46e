"""Dynamic chunks: what attention may see is drawn anew with every update, so that one encoder streams and reads whole utterances.

As in WeNet's U2 (Zhang et al. 2020, arXiv 2012.05481, section 3.2) and, with left context, SpeechBrain's dynamic chunk training.
"""

from typing import Optional

import torch

from fairseq_birq.objective.masking import uniforms, utterance_keys
from fairseq_birq.structs import Chunks

_STREAM = 10  # of random numbers, see `objective/masking.py`


class ChunkSampler:
    """Draws are functions of (seed, update): all processes, micro-batches and masked views of an update have the same.

    Args:
        prob: share of the updates that are computed in chunks; in the others every frame sees the whole utterance.
        min_frames, max_frames: encoder frames of a chunk, drawn evenly.
        left_prob: share of those updates in which only some chunks before its own are seen; in the others all are.
        min_left, max_left: so many, drawn evenly.
    """

    def __init__(self, prob: float, min_frames: int, max_frames: int, left_prob: float, min_left: int, max_left: int):
        self.prob, self.left_prob = prob, left_prob
        self.min_frames, self.max_frames = min_frames, max_frames
        self.min_left, self.max_left = min_left, max_left

    def sample(self, seed: int, update: int) -> Optional[Chunks]:
        """Chunks of an update, or None: the whole utterance."""
        key = utterance_keys(seed, update, torch.zeros(1, dtype=torch.int64))
        chunked, length, limited, left = uniforms(key, torch.arange(4), _STREAM).tolist()
        if chunked >= self.prob:
            return None
        num_frames = self.min_frames + int(length * (self.max_frames - self.min_frames + 1))
        if limited >= self.left_prob:
            return Chunks(num_frames)
        return Chunks(num_frames, self.min_left + int(left * (self.max_left - self.min_left + 1)))
