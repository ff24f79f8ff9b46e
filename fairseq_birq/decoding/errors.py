"""Word and character error rates from summed edit distances."""

from dataclasses import dataclass
from typing import Sequence

import editdistance


@dataclass
class ErrorCounts:
    """Sums over utterances: add them up over batches and processes, then divide."""

    word_errors: int = 0
    num_words: int = 0
    letter_errors: int = 0
    num_letters: int = 0

    def __add__(self, other: "ErrorCounts") -> "ErrorCounts":
        return ErrorCounts(*(mine + theirs for mine, theirs in zip(vars(self).values(), vars(other).values())))

    @property
    def wer(self) -> float:
        """Per cent."""
        return rate(self.word_errors, self.num_words)

    @property
    def cer(self) -> float:
        """Per cent."""
        return rate(self.letter_errors, self.num_letters)


def rate(errors: float, total: float) -> float:
    """Per cent; 0 where there is nothing to get wrong and no error, infinite where all errors are insertions."""
    if total:
        return round(100.0 * errors / total, 3)
    return float("inf") if errors else 0.0


def count_errors(references: Sequence[str], hypotheses: Sequence[str]) -> ErrorCounts:
    """Levenshtein distances of texts, over words and over characters; the spaces between words are characters."""
    counts = ErrorCounts()
    for reference, hypothesis in zip(references, hypotheses):
        pairs = (reference.split(), hypothesis.split()), (" ".join(reference.split()), " ".join(hypothesis.split()))
        (words, guessed_words), (letters, guessed_letters) = pairs
        counts += ErrorCounts(
            int(editdistance.eval(words, guessed_words)),
            len(words),
            int(editdistance.eval(letters, guessed_letters)),
            len(letters),
        )
    return counts


def count_generated(output: str) -> ErrorCounts:
    """Error counts of what `fairseq-generate` printed: its T- lines against the first D- line of each utterance."""
    references, hypotheses = {}, {}
    for line in output.splitlines():
        kind, _, rest = line.partition("-")
        number, *fields = rest.split("\t")
        if kind == "T":
            references[number] = fields[0] if fields else ""
        elif kind == "D":
            hypotheses.setdefault(number, fields[1] if len(fields) > 1 else "")
    return count_errors(list(references.values()), [hypotheses.get(number, "") for number in references])
