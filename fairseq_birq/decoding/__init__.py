"""Decoders: from CTC log-probabilities to n-best lists. A new one is a file here and a line in `DECODERS`."""

from typing import Sequence

from fairseq_birq.data.transcripts import WORD_BOUNDARY, are_subwords
from fairseq_birq.decoding.base import Decoder, Hypothesis  # noqa: F401
from fairseq_birq.decoding.greedy import GreedyDecoder
from fairseq_birq.decoding.lexicon import LexiconDecoder
from fairseq_birq.decoding.subword_lexicon import SubwordLexiconDecoder
from fairseq_birq.errors import UserError

DECODERS = {"greedy": GreedyDecoder, "lexicon": LexiconDecoder, "subword_lexicon": SubwordLexiconDecoder}


def lexicon_decoder(symbols: Sequence[str], blank: int, sil_weight: float = 0.0, **options) -> Decoder:
    """The decoder of a lexicon's words that these symbols want: letters, or subword units. options: of either.

    Raises:
        UserError: as the decoders; or `sil_weight` is given for units without a word boundary.
    """
    if not are_subwords(symbols):
        return DECODERS["lexicon"](symbols, blank=blank, word_boundary=WORD_BOUNDARY, sil_weight=sil_weight, **options)
    if sil_weight:
        raise UserError(f"--sil-weight {sil_weight} would have no effect: subword units have no word boundary; leave it out")
    return DECODERS["subword_lexicon"](symbols, blank=blank, **options)
