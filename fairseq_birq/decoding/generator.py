"""Between fairseq-generate and a decoder."""

import math
from typing import List, Sequence

import torch

from fairseq_birq.decoding.base import Decoder, Hypothesis
from fairseq_birq.decoding.errors import ErrorCounts


class CtcGenerator:
    """What fairseq-generate calls: models to log-probabilities, a decoder to n-best lists.

    Several models are averaged in probability.
    """

    def __init__(self, decoder: Decoder, symbols_to_strip: Sequence[int]):
        self.decoder = decoder
        self.symbols_to_strip_from_output = set(symbols_to_strip)
        self.counts = ErrorCounts()

    def generate(self, models, sample, prefix_tokens=None, constraints=None) -> List[List[dict]]:
        """Per utterance of the batch an n-best list, as fairseq-generate prints it."""
        outputs = [model(**sample["net_input"]) for model in models]
        log_probs = [model.get_normalized_probs(output, log_probs=True) for model, output in zip(models, outputs)]
        mean = torch.stack(log_probs).logsumexp(0) - math.log(len(models))
        lengths = (~outputs[0].padding_mask).sum(1)
        return [[_as_fairseq(hypothesis) for hypothesis in nbest] for nbest in self.decoder(mean, lengths)]


def _as_fairseq(hypothesis: Hypothesis) -> dict:
    return {
        "tokens": hypothesis.tokens,
        "score": hypothesis.score,
        "positional_scores": hypothesis.token_scores,
        "alignment": hypothesis.token_frames,
        "words": hypothesis.words,
    }
