"""Transcribed speech of a folder, as the task `birq_asr` reads it for fairseq."""

from pathlib import Path
from typing import Sequence

from fairseq_birq.data.dataset import AudioDataset
from fairseq_birq.data.manifest import read_manifest
from fairseq_birq.data.transcripts import are_subwords, foreign_letters, read_letter_rows, read_symbols, read_unit_scores
from fairseq_birq.decoding.alphabet import Alphabet
from fairseq_birq.errors import UserError
from fairseq_birq.settings import MISSING


def read_alphabet(section) -> Alphabet:
    """The letters or subword units of `task.data`. Raises UserError where there is no dictionary."""
    symbols = read_symbols(_folder(section) / f"dict.{section.labels}.txt")
    scores = read_unit_scores(_folder(section) / f"{section.labels}.vocab", symbols[4:]) if are_subwords(symbols) else None
    return Alphabet(symbols, scores)


def open_split(section, split: str, letters: Alphabet, sample_rate: int, speeds: Sequence[float] = (1.0,)) -> AudioDataset:
    """section: the recipe's `task`. Raises UserError for files that are missing or do not fit together."""
    manifest = read_manifest(_folder(section) / f"{split}.tsv")
    return AudioDataset(
        manifest,
        sample_rate=sample_rate,
        min_samples=int(section.min_seconds * sample_rate),
        on_bad_audio=str(section.on_bad_audio),
        bad_audio_budget=section.bad_audio_budget,
        letters=read_letter_rows(_letter_file(section, split), len(manifest), letters.indices),
        pad_index=letters.pad,
        speeds=speeds,
    )


def with_foreign_letters(section, split: str, letters: Alphabet):
    """The letters of a model and, behind them, those of a split that it lacks, each of which is an error of the model's.

    Returns:
        an `Alphabet`, and how often each letter stands there that the model lacks.
    """
    manifest = read_manifest(_folder(section) / f"{split}.tsv")
    foreign = foreign_letters(_letter_file(section, split), len(manifest), letters.indices)
    return Alphabet([*letters.symbols, *foreign]), foreign


def _letter_file(section, split: str) -> Path:
    return _folder(section) / f"{split}.{section.labels}"


def _folder(section) -> Path:
    if section.data == MISSING:
        raise UserError("`task.data` is missing: name the folder with <split>.tsv, <split>.ltr and dict.ltr.txt")
    return Path(section.data).absolute()
