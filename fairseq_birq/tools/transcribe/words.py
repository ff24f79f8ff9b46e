"""What is known of a recording: words with their times and how sure the model is."""

import math
from dataclasses import dataclass, field
from typing import List, Sequence

from fairseq_birq.data.transcripts import WORD_BEGIN, are_subwords, words_in
from fairseq_birq.decoding.base import Hypothesis


@dataclass
class Word:
    text: str
    start_s: float  # first frame of the first letter; a CTC model may write a letter late in its sound
    end_s: float  # end of the last frame of the last letter
    confidence: float  # (0, 1]: geometric mean of the probabilities of its letters' frames
    num_frames: int  # of its letters


@dataclass
class Transcript:
    """name: as the user named the recording."""

    name: str
    seconds: float
    words: List[Word] = field(default_factory=list)

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)

    @property
    def confidence(self) -> float:
        """Geometric mean over the frames of all letters; 0 where there are none."""
        frames = sum(word.num_frames for word in self.words)
        return math.exp(sum(word.num_frames * math.log(word.confidence) for word in self.words) / frames) if frames else 0.0


@dataclass
class Failure:
    """A recording that could not be read, or not to its end."""

    name: str
    reason: str


def words_of(found: Hypothesis, symbols: Sequence[str], frame_seconds: float, offset_s: float, seconds: float) -> List[Word]:
    """Words of a piece that begins at `offset_s` of its recording and is `seconds` long."""
    spelt = [symbols[token] for token in found.tokens.tolist()]
    subwords = are_subwords(symbols)
    groups = words_in(spelt, subwords)
    texts = ["".join(spelt[place] for place in group) for group in groups]
    if subwords:
        texts = [text.replace(WORD_BEGIN, "") for text in texts]
        groups, texts = [group for group, text in zip(groups, texts) if text], [text for text in texts if text]
    if found.words is not None and len(found.words) == len(groups):
        texts = found.words  # a lexicon's words need not be spelt as they are written
    return [_word(text, found, group, frame_seconds, offset_s, seconds) for text, group in zip(texts, groups)]


def _word(text, found, group, frame_seconds, offset_s, seconds) -> Word:
    frames = int((found.token_ends[group] - found.token_frames[group]).sum())
    probability = math.exp(max(float(found.token_scores[group].sum()) / frames, -700.0))
    start, end = int(found.token_frames[group[0]]), int(found.token_ends[group[-1]])
    return Word(
        text,
        offset_s + min(start * frame_seconds, seconds),
        offset_s + min(end * frame_seconds, seconds),
        min(probability, 1.0),
        frames,
    )
