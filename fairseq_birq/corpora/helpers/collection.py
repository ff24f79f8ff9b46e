"""What every corpus is collected in: utterances by split, and what was left out and why."""

import unicodedata
from collections import Counter
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from fairseq_birq.data.audio_paths import parse_audio_path
from fairseq_birq.data.manifest import split_rows
from fairseq_birq.errors import UserError

_INVISIBLE = (0x00AD, 0x2060, 0xFEFF)  # soft hyphen, word joiner, byte order mark


class Utterance(NamedTuple):
    path: str  # relative to the corpus' root; `path:offset:samples` is a stretch of a long file, at the file's own rate
    num_samples: int
    sample_rate: int
    text: Optional[str] = None

    @property
    def seconds(self) -> float:
        return self.num_samples / self.sample_rate


class Collection:
    """Utterances that fit, by split, and reason -> names of what was left out.

    min_seconds, max_seconds: shorter and longer utterances are left out
    """

    def __init__(self, min_seconds: float = 0.0, max_seconds: float = float("inf")):
        self.min_seconds, self.max_seconds = min_seconds, max_seconds
        self.splits: Dict[str, List[Utterance]] = {}
        self.left_out: Dict[str, List[str]] = {}
        self.other_files: Counter = Counter()  # suffix -> files that are no audio by their name
        self.changed_texts = 0  # transcripts with invisible characters, or letters that Unicode writes in several ways
        self._split_of: Dict[str, str] = {}

    @property
    def utterances(self) -> List[Utterance]:
        return [utterance for utterances in self.splits.values() for utterance in utterances]

    @property
    def hours(self) -> float:
        return hours(self.utterances)

    def leave_out(self, reason: str, name: str) -> None:
        self.left_out.setdefault(reason, []).append(name)

    def add(self, split: str, utterance: Utterance) -> None:
        """Take an utterance, or leave it out for its path, length or text, or because it was taken before.

        Its text is taken as words with single spaces between them, see `one_form`.

        Raises:
            UserError: another split has the same audio.
        """
        other = self._split_of.get(utterance.path)
        if other not in (None, split):
            raise UserError(f"{utterance.path}: is in {other} and in {split}; no audio may be in two splits")
        if utterance.text is not None:
            words = " ".join(utterance.text.split())
            utterance = utterance._replace(text=one_form(words))
            self.changed_texts += utterance.text != words
        reason = self._fault(utterance) if other is None else "the same audio a second time"
        if reason is not None:
            self.leave_out(reason, repr(utterance.path) if "path" in reason else utterance.path)
            return
        self._split_of[utterance.path] = split
        self.splits.setdefault(split, []).append(utterance)

    def hold_out(self, valid_fraction: float, seed: int, group: Callable[[str], str], split: str = "train") -> None:
        """Move a share of the groups of `split` to `valid`, all utterances of a group together.

        group: of a path, as the speaker

        Raises:
            UserError: the fraction is out of range, or there is a `valid` already.
        """
        check_fraction(valid_fraction)
        if valid_fraction and "valid" in self.splits:
            raise UserError("there is a split `valid` already; leave --valid-fraction out")
        utterances = self.splits.get(split, [])
        groups = sorted({group(utterance.path) for utterance in utterances})
        held_out = {groups[row] for row in split_rows(groups, valid_fraction, seed)[1]}
        parts = {True: [], False: []}
        for utterance in utterances:
            parts[group(utterance.path) in held_out].append(utterance)
        if parts[True]:
            self.splits[split], self.splits["valid"] = parts[False], parts[True]

    def lines(self) -> List[str]:
        """Hours, durations, sample rates and what was left out, for a terminal."""
        utterances = self.utterances
        seconds = np.array([utterance.seconds for utterance in utterances])
        rates = Counter(utterance.sample_rate for utterance in utterances)
        unit = unit_of(utterances)
        lines = [f"audio       {len(seconds)} {unit}, {self.hours:.2f} h ({self.hours * 60:.1f} min)"]
        if len(seconds):
            lines.append(f"durations   min {seconds.min():.2f} s, median {np.median(seconds):.2f} s, max {seconds.max():.2f} s")
        lines.append("rates       " + ", ".join(f"{rate} Hz: {count} {unit}" for rate, count in sorted(rates.items())))
        lines += [f"left out    {len(names)}, {reason}; first: {names[0]}" for reason, names in self.left_out.items()]
        if self.changed_texts:
            lines.append(
                f"transcripts {self.changed_texts} had invisible characters, or letters in different Unicode forms: made one form"
            )
        if self.other_files:
            kinds = sorted(self.other_files.items(), key=lambda item: (-item[1], item[0]))
            kinds = ", ".join(f"{suffix} {count}" for suffix, count in kinds)
            lines.append(f"not read    {sum(self.other_files.values())} files that are no audio by their suffix: {kinds}")
        if len(rates) > 1:
            lines.append("rates       differ: a .rate file beside each manifest tells every row's")
        return [*lines, "            all of them are in left_out.txt"] if self.left_out else [*lines, "left out    nothing"]

    def _fault(self, utterance):
        """Why an utterance cannot be taken, or None."""
        path, text = utterance.path, utterance.text
        if any(character in path for character in "\t\n\r"):
            return "tab or line break in the path"
        if utterance.seconds < self.min_seconds:
            return f"shorter than {self.min_seconds} s"
        if utterance.seconds > self.max_seconds:
            return f"longer than {self.max_seconds} s"
        if text is not None and not text:
            return "empty transcript"
        if text is not None and "|" in text:
            return "transcript with `|`, which stands for the end of a word"
        if text is not None and not _is_unicode(text):
            return "transcript with half a character"
        return None


def one_form(text: str) -> str:
    """Each letter in Unicode's composed form (NFC), without invisible characters: else they become letters of their own.

    A zero-width space stands between words. Joiners stay: in some scripts they change a letter.
    """
    visible = text.replace("\u200b", " ").translate(dict.fromkeys(_INVISIBLE))
    return unicodedata.normalize("NFC", " ".join(visible.split()))


def _is_unicode(text) -> bool:
    """Whether UTF-8 can write it: JSON may hold halves of surrogate pairs."""
    try:
        return bool(text.encode("utf-8"))
    except UnicodeEncodeError:
        return False


def hours(utterances: Sequence[Utterance]) -> float:
    return sum(utterance.seconds for utterance in utterances) / 3600


def unit_of(utterances: Sequence[Utterance]) -> str:
    """`files` where every utterance is one, else `utterances`."""
    return "utterances" if any(parse_audio_path(item.path).length is not None for item in utterances) else "files"


def check_fraction(valid_fraction: float) -> None:
    if not 0 <= valid_fraction < 1:
        raise UserError(f"--valid-fraction must be >= 0 and < 1, but is {valid_fraction}")
