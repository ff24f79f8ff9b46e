"""Transcripts as the files of fairseq's speech recipes: `.wrd`, `.ltr` and `dict.ltr.txt`; and what their symbols mean."""

import unicodedata
from collections import Counter
from pathlib import Path
from typing import Collection, Dict, Iterable, List, Optional, Sequence

import torch
from torch import Tensor

from fairseq_birq.data.files import write_lines
from fairseq_birq.data.manifest import parallel_lines
from fairseq_birq.data.text import text_lines
from fairseq_birq.errors import UserError

WORD_BOUNDARY = "|"
WORD_BEGIN = "\u2581"  # SentencePiece's mark
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")  # fairseq's, before the letters; the first is the blank of CTC


def to_letters(text: str) -> str:
    """Letters separated by spaces, `|` after every word: `a cat` becomes `a | c a t |`."""
    return " ".join(letter for word in text.split() for letter in f"{word}{WORD_BOUNDARY}")


def from_letters(letters: Iterable[str]) -> str:
    """The text of letters, words separated by single spaces: what `to_letters` undoes."""
    return " ".join("".join(letters).replace(WORD_BOUNDARY, " ").split())


def are_subwords(symbols: Collection[str]) -> bool:
    """Whether a dictionary has SentencePiece's units, which mark where words begin, and not letters, with `|` after words."""
    return WORD_BOUNDARY not in symbols and any(symbol.startswith(WORD_BEGIN) for symbol in symbols)


def from_subwords(units: Iterable[str]) -> str:
    """The text of SentencePiece's units, words separated by single spaces."""
    return " ".join("".join(units).replace(WORD_BEGIN, " ").split())


def text_of(symbols: Iterable[str], subwords: bool) -> str:
    return from_subwords(symbols) if subwords else from_letters(symbols)


def words_in(symbols: Sequence[str], subwords: bool) -> List[List[int]]:
    """Of every word the places of its symbols; the `|` after a word is none of them."""
    groups: List[List[int]] = []
    inside = False
    for place, symbol in enumerate(symbols):
        if not subwords and symbol == WORD_BOUNDARY:
            inside = False
            continue
        if not inside or (subwords and symbol.startswith(WORD_BEGIN)):
            groups.append([])
        groups[-1].append(place)
        inside = True
    return groups


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
    """How often each letter that is none of the symbols stands in a file of letters.

    Raises:
        UserError: as `read_letter_rows` but for such letters; or the file has letters where the symbols are subword units, or
            the other way round: the same words, but no symbol would be right.
    """
    lines = parallel_lines(path, expected_lines)
    found = Counter(letter for line in lines for letter in line.split())
    if are_subwords(indices) and WORD_BOUNDARY in found:
        raise UserError(
            f"{path} has letters, but the checkpoint writes subword units: name transcripts in its units, as --labels spm "
            "(`birq-subwords DATA --model SPM.model` makes them)"
        )
    if not are_subwords(indices) and are_subwords(found):
        raise UserError(f"{path} has subword units, but the checkpoint writes letters: name transcripts in them (--labels ltr)")
    return Counter({letter: count for letter, count in found.items() if letter not in indices})


def read_unit_scores(path, units: Sequence[str]) -> Optional[List[float]]:
    """Log-probabilities of a dictionary's subword units, of the model beside it; None where there is none.

    path: `<name>.vocab`, which `birq-subwords` writes: `unit<TAB>score` lines

    Raises:
        UserError: the file is malformed, or has other units.
    """
    if not Path(path).is_file():
        return None
    scores = {}
    for number, line in text_lines(path, "vocabulary"):
        unit, _, score = line.partition("\t")
        try:
            scores[unit] = float(score)
        except ValueError:
            raise UserError(f"{path}, line {number}: must be `unit<TAB>score`, but is {line!r}") from None
    scores.pop("<unk>", None)
    if list(scores) != list(units):
        raise UserError(
            f"{path} has other units than the dictionary beside it ({len(scores)} and {len(units)}): model and dictionary do not "
            "belong together; make both again by `birq-subwords`"
        )
    return list(scores.values())
