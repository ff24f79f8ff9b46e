"""Which scorer `fairseq-generate` takes."""

import pytest
from fairseq import scoring
from fairseq.data import Dictionary
from fairseq.scoring.bleu import Scorer
from fairseq.scoring.wer import WerScorer
from omegaconf import OmegaConf

from fairseq_birq import patches
from fairseq_birq.doors.asr_task import LetterDictionary


@pytest.mark.parametrize("choice", ["bleu", {"_name": "bleu", "pad": 1, "eos": 2, "unk": 3}])
def test_letters_are_scored_in_words_unless_told_otherwise(choice):
    patches.install()
    choice = choice if isinstance(choice, str) else OmegaConf.create(choice)
    scorer = scoring.build_scorer(choice, LetterDictionary())
    assert isinstance(scorer, WerScorer)
    scorer.add_string("one two three four", "one two too")
    assert scorer.result_string() == "WER: 50.00"
    assert isinstance(scoring.build_scorer(choice, Dictionary()), Scorer)
    chrf = OmegaConf.create({"_name": "chrf"})
    assert not isinstance(scoring.build_scorer(chrf, LetterDictionary()), WerScorer)
