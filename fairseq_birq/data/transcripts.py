"""Transcripts as the files of fairseq's speech recipes: `.wrd`, `.ltr` and `dict.ltr.txt`."""

import unicodedata
from collections import Counter
from pathlib import Path
from typing import Dict, Iterable, List, Sequence

import torch
from torch import Tensor

from fairseq_birq.data.files import write_lines
from fairseq_birq.data.manifest import parallel_lines
from fairseq_birq.data.text import text_lines
from fairseq_birq.errors import UserError

WORD_BOUNDARY = "|"
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")  # fairseq's, before the letters; the first is the blank of CTC


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


def read_symbols(path) -> List[str]:
    """The symbols of a `dict.ltr.txt`, after fairseq's own four. Raises UserError where it is missing or malformed."""
    letters = []
    for number, line in text_lines(Path(path), "dictionary"):
        symbol, _, count = line.rstrip().rpartition(" ")
        if not symbol or not count.isdigit():
            raise UserError(f"{path}, line {number}: must be `symbol count`, but is {line!r}")
        letters.append(symbol)
    if not letters:
        raise UserError(f"{path}: has no letters")
    return [*SPECIAL, *letters]


def read_letter_rows(path, expected_lines: int, indices: Dict[str, int]) -> List[Tensor]:
    """One (L,) int32 tensor of letters per row of the manifest. indices: symbol -> its number.

    Raises:
        UserError: the file is missing, has another number of lines, or a letter that is none of the symbols.
    """
    rows = []
    for number, line in enumerate(parallel_lines(path, expected_lines), start=1):
        unknown = [letter for letter in line.split() if letter not in indices]
        if unknown:
            raise UserError(
                f"{path}, line {number}: the dictionary lacks the letter {unknown[0]!r}{_same_letter(unknown[0], indices)}; "
                "add it to the dictionary and train again, or take it out of the transcript"
            )
        rows.append(torch.tensor([indices[letter] for letter in line.split()], dtype=torch.int32))
    return rows


def _same_letter(letter: str, indices) -> str:
    """What the dictionary has instead, where that is the same letter in different case or Unicode form."""
    forms = (letter.lower(), letter.upper(), *(unicodedata.normalize(form, letter) for form in ("NFC", "NFD")))
    found = next((form for form in forms if form != letter and form in indices), None)
    return "" if found is None else f", but has {found!r}: write the transcripts as those of the dictionary"


def foreign_letters(path, expected_lines: int, indices: Dict[str, int]) -> Counter:
    """How often each letter that is none of the symbols stands in a file of letters."""
    return Counter(letter for line in parallel_lines(path, expected_lines) for letter in line.split() if letter not in indices)
