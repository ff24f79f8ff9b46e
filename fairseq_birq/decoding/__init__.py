"""Decoders: from CTC log-probabilities to n-best lists. A new one is a file here and a line in `DECODERS`."""

from fairseq_birq.decoding.base import Hypothesis  # noqa: F401
from fairseq_birq.decoding.greedy import GreedyDecoder
from fairseq_birq.decoding.lexicon import LexiconDecoder

DECODERS = {"greedy": GreedyDecoder, "lexicon": LexiconDecoder}
