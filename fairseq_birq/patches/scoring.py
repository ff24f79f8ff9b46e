"""What `fairseq-generate` scores with when nobody says so: words, where letters are decoded.

fairseq's default is BLEU, whose figure would be the last line, below our own word error rate.
"""

import functools

from fairseq.scoring.wer import WerScorer, WerScorerConfig


def in_words(build_scorer):
    """fairseq's `build_scorer`; where it would give BLEU's scorer for letters, it gives that of `--scoring wer`."""

    @functools.wraps(build_scorer)
    def build(choice, tgt_dict):
        name = getattr(choice, "_name", choice)
        if name in (None, "bleu") and getattr(tgt_dict, "writes_words", False):
            return WerScorer(WerScorerConfig())
        return build_scorer(choice, tgt_dict)

    return build
