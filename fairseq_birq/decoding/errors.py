"""Word and character error rates from summed edit distances."""

from dataclasses import dataclass
from typing import Dict, List, Sequence, Tuple

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
    pairs = read_generated(output).values()
    return count_errors([reference for reference, _ in pairs], [hypothesis for _, hypothesis in pairs])


def read_generated(output: str) -> Dict[str, Tuple[str, str]]:
    """utterance -> (T- line, first D- line) of what `fairseq-generate` printed; "" where nothing was decoded."""
    references: Dict[str, str] = {}
    hypotheses: Dict[str, str] = {}
    for line in output.splitlines():
        kind, _, rest = line.partition("-")
        number, *fields = rest.split("\t")
        if kind == "T":
            references[number] = fields[0] if fields else ""
        elif kind == "D":
            hypotheses.setdefault(number, fields[1] if len(fields) > 1 else "")
    return {number: (reference, hypotheses.get(number, "")) for number, reference in references.items()}


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> List[Tuple[str, str, str]]:
    """One of the shortest ways from `reference` to `hypothesis`: ("equal", "replace", "delete" or "insert", its word, its word).

    Of ways of equal length, equal words and replacements come before deletions, and those before insertions.
    """
    distance = [[column for column in range(len(hypothesis) + 1)] for row in range(len(reference) + 1)]
    for row, word in enumerate(reference, start=1):
        distance[row][0] = row
        for column, guess in enumerate(hypothesis, start=1):
            swapped = distance[row - 1][column - 1] + (word != guess)
            distance[row][column] = min(swapped, distance[row - 1][column] + 1, distance[row][column - 1] + 1)
    steps, row, column = [], len(reference), len(hypothesis)
    while row or column:
        here = distance[row][column]
        same = bool(row and column) and reference[row - 1] == hypothesis[column - 1]
        if row and column and here == distance[row - 1][column - 1] + (not same):
            row, column = row - 1, column - 1
            steps.append(("equal" if same else "replace", reference[row], hypothesis[column]))
        elif row and here == distance[row - 1][column] + 1:
            row -= 1
            steps.append(("delete", reference[row], ""))
        else:
            column -= 1
            steps.append(("insert", "", hypothesis[column]))
    return steps[::-1]
