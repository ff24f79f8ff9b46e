"""Transcripts as the files of fairseq's speech recipes: `.wrd`, `.ltr` and `dict.ltr.txt`."""

from collections import Counter
from pathlib import Path
from typing import Iterable, Sequence

from fairseq_birq.data.files import write_lines

WORD_BOUNDARY = "|"


def to_letters(text: str) -> str:
    """Letters separated by spaces, `|` after every word: `a cat` becomes `a | c a t |`."""
    return " ".join(letter for word in text.split() for letter in f"{word}{WORD_BOUNDARY}")


def from_letters(letters: Iterable[str]) -> str:
    """The text of letters, words separated by single spaces: what `to_letters` undoes."""
    return " ".join("".join(letters).replace(WORD_BOUNDARY, " ").split())


def write_transcripts(folder, split: str, texts: Sequence[str]) -> None:
    """Write `<split>.wrd` and `<split>.ltr`, one line per row of `<split>.tsv`."""
    write_lines(Path(folder) / f"{split}.wrd", texts)
    write_lines(Path(folder) / f"{split}.ltr", map(to_letters, texts))


def write_letter_dictionary(folder, texts: Iterable[str]) -> None:
    """Write `dict.ltr.txt`: `letter count`, the most frequent first."""
    counts = Counter(letter for text in texts for letter in to_letters(text).split())
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    write_lines(Path(folder) / "dict.ltr.txt", (f"{letter} {count}" for letter, count in ranked))
