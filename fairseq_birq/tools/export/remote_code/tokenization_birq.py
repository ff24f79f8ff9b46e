"""SentencePiece's units of a CTC model as a tokenizer of transformers, without SentencePiece."""

import math

from transformers import Wav2Vec2CTCTokenizer

WORD_BEGIN = "\u2581"  # SentencePiece's mark
UNKNOWN_PENALTY = 10.0  # as in SentencePiece: so much less than the least likely unit


class BirqSubwordTokenizer(Wav2Vec2CTCTokenizer):
    """As `Wav2Vec2CTCTokenizer`, but units are parts of words, the first one with a mark. Offsets are of units and of words.

    Args:
        unit_scores: {unit: log-probability} of SentencePiece's unigram model. The likeliest units spell a word.
    """

    word_delimiter_token = None  # no symbol stands between words

    def __init__(self, vocab_file, unit_scores=None, **kwargs):
        self.unit_scores = dict(unit_scores or {})
        self._longest = max(map(len, self.unit_scores), default=1)
        self._of_unknown = min(self.unit_scores.values(), default=0.0) - UNKNOWN_PENALTY
        super().__init__(vocab_file, unit_scores=self.unit_scores, **{**kwargs, "word_delimiter_token": None})

    def add_tokens(self, new_tokens, special_tokens=False):
        """Units are no added tokens, for which the base class takes all that is longer than a letter."""
        tokens = new_tokens if isinstance(new_tokens, (list, tuple)) else [new_tokens]
        tokens = [token for token in tokens if str(token) not in self.encoder]
        return super().add_tokens(tokens, special_tokens) if tokens else 0

    def tokenize(self, text, **kwargs):
        """Units of a text's words; a character without one stands for itself."""
        return [unit for word in text.split() for unit in self._spell(WORD_BEGIN + word)]

    def _spell(self, word):
        """The likeliest units, by dynamic programming over their ends."""
        best = [(0.0, 0), *((-math.inf, 0) for _ in word)]
        for end in range(1, len(word) + 1):
            for begin in range(max(0, end - self._longest), end):
                unit = word[begin:end]
                score = self.unit_scores.get(unit, self._of_unknown if end == begin + 1 else None)
                if score is not None and best[begin][0] + score > best[end][0]:
                    best[end] = best[begin][0] + score, begin
        units, end = [], len(word)
        while end:
            units.append(word[best[end][1] : end])
            end = best[end][1]
        return units[::-1]

    def convert_tokens_to_string(self, tokens, **kwargs):
        """Merged repeats, unless `group_tokens=False`, without blanks; the mark becomes a space."""
        found = super().convert_tokens_to_string(tokens, **kwargs)
        found["text"] = " ".join(found["text"].replace(WORD_BEGIN, " ").split())
        for offset in found["char_offsets"] or ():
            offset["char"] = offset["char"].replace(WORD_BEGIN, " ")
        return found

    @staticmethod
    def _get_word_offsets(offsets, word_delimiter_char=" "):
        """Of units with their marks, or with the spaces that `convert_tokens_to_string` made of them: the pipeline asks so."""
        words = []
        for offset in offsets:
            unit = offset["char"].replace(WORD_BEGIN, " ")
            if unit.startswith(" ") or not words:
                words.append({"word": "", "start_offset": offset["start_offset"]})
            words[-1].update(word=words[-1]["word"] + unit.strip(), end_offset=offset["end_offset"])
        return [word for word in words if word["word"]]
