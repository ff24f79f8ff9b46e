"""Any folder of audio files as a corpus: find them, measure them, say what was left out and why."""

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import numpy as np
from tqdm import tqdm

from fairseq_birq.data.audio import AudioError, probe
from fairseq_birq.data.labels import write_letter_dictionary, write_transcripts
from fairseq_birq.data.manifest import split_rows, write_manifest
from fairseq_birq.errors import UserError
from fairseq_birq.manifests.transcripts import Transcripts

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
READERS = 8  # threads; opening files is mostly waiting for the disk


@dataclass(frozen=True)
class Utterance:
    path: str  # relative to the corpus' folder
    num_samples: int
    sample_rate: int
    text: Optional[str] = None

    @property
    def seconds(self) -> float:
        return self.num_samples / self.sample_rate


@dataclass
class Report:
    """What a scan kept and what it left out: reason -> (how many, the first one)."""

    utterances: List[Utterance] = field(default_factory=list)
    left_out: Dict[str, Tuple[int, str]] = field(default_factory=dict)

    def leave_out(self, reason: str, example: str) -> None:
        count, first = self.left_out.get(reason, (0, example))
        self.left_out[reason] = (count + 1, first)

    @property
    def hours(self) -> float:
        return sum(utterance.seconds for utterance in self.utterances) / 3600

    def lines(self) -> List[str]:
        """Hours, durations, sample rates and what was left out, for a terminal."""
        seconds = np.array([utterance.seconds for utterance in self.utterances])
        rates = Counter(utterance.sample_rate for utterance in self.utterances)
        lines = [f"audio       {len(seconds)} files, {self.hours:.2f} h ({self.hours * 60:.1f} min)"]
        if len(seconds):
            lines.append(
                f"durations   min {seconds.min():.2f} s, median {np.median(seconds):.2f} s, max {seconds.max():.2f} s"
            )
        lines.append("rates       " + ", ".join(f"{rate} Hz: {count} files" for rate, count in sorted(rates.items())))
        lines += [f"left out    {count}, {reason}; first: {first}" for reason, (count, first) in self.left_out.items()]
        return lines if self.left_out else lines + ["left out    nothing"]


def make(
    folder: str,
    out: str,
    valid_fraction: float = 0.01,
    seed: int = 1,
    min_seconds: float = 0.0,
    max_seconds: float = float("inf"),
    transcripts: Optional[str] = None,
) -> List[str]:
    """Write `train.tsv` and `valid.tsv`, with transcripts also `.wrd`, `.ltr` and `dict.ltr.txt`.

    Everything is read before anything is written.

    Returns:
        Lines that say what is there, what was left out and what was written.

    Raises:
        UserError: a setting is out of range, the folder is missing, or nothing usable is in it.
    """
    if not 0 <= valid_fraction < 1:
        raise UserError(f"--valid-fraction must be >= 0 and < 1, but is {valid_fraction}")
    texts = Transcripts(transcripts) if transcripts else None
    report = scan(folder, min_seconds, max_seconds, texts)
    if not report.utterances:
        raise UserError("\n".join([f"{folder}: no utterance is left"] + report.lines()))
    parts = split_rows([utterance.path for utterance in report.utterances], valid_fraction, seed)
    stale = Path(out) / "valid.tsv"
    if not parts[1] and stale.exists():
        raise UserError(f"{stale}: would overlap with a training part that is now everything; remove it")
    Path(out).mkdir(parents=True, exist_ok=True)
    written = []
    for split, rows in zip(("train", "valid"), parts):
        if rows:
            chosen = [report.utterances[row] for row in rows]
            written.append(_write_split(folder, out, split, chosen, texts is not None))
    if texts is not None:
        write_letter_dictionary(out, [utterance.text for utterance in report.utterances])
    return report.lines() + written


def scan(folder, min_seconds: float = 0.0, max_seconds: float = float("inf"), transcripts=None) -> Report:
    """Find the audio files below `folder` and measure each; in the order of their paths.

    Raises:
        UserError: the folder is missing or holds no audio file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    names = find_audio(folder)
    if not names:
        raise UserError(f"{folder}: no {', '.join(suffix[1:] for suffix in SUFFIXES)} file in it or below it")
    report = Report()
    with ThreadPoolExecutor(READERS) as readers:
        measured = readers.map(lambda name: _measure(folder, name), names)
        for name, result in zip(names, tqdm(measured, total=len(names), desc="scan", unit=" files")):
            _sort_in(report, name, result, (min_seconds, max_seconds), transcripts)
    if transcripts is not None:
        for key in transcripts.unused():
            report.leave_out("transcript without audio", key)
    return report


def find_audio(folder: Path) -> List[str]:
    """Sorted paths, relative to `folder`, of the audio files below it; links are followed, each folder once."""
    found, seen = [], set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        found += [
            os.path.relpath(os.path.join(parent, name), folder) for name in files if name.lower().endswith(SUFFIXES)
        ]
    return sorted(found)


def _measure(folder, name):
    """AudioInfo, or the reason why there is none."""
    try:
        return probe(os.path.join(folder, name), check_end=True)
    except AudioError as error:
        return str(error).split(": ", 1)[1]


def _sort_in(report, name, result, bounds, transcripts):
    text = transcripts.pop(name) if transcripts is not None else None
    if "\t" in name or "\n" in name:
        report.leave_out("tab or line break in the path", repr(name))
    elif isinstance(result, str):
        report.leave_out("unusable audio", f"{name} ({result})")
    elif result.seconds < bounds[0]:
        report.leave_out(f"shorter than {bounds[0]} s", name)
    elif result.seconds > bounds[1]:
        report.leave_out(f"longer than {bounds[1]} s", name)
    elif transcripts is not None and not text:
        report.leave_out("audio without transcript", name)
    else:
        report.utterances.append(Utterance(name, result.num_samples, result.sample_rate, text))


def _write_split(folder, out, split, utterances, with_text):
    if with_text:
        write_transcripts(out, split, [utterance.text for utterance in utterances])
    path = Path(out) / f"{split}.tsv"
    rows = [(utterance.path, utterance.num_samples) for utterance in utterances]
    write_manifest(path, str(Path(folder).resolve()), rows)
    return f"written     {path}: {len(rows)} files, {Report(utterances).hours * 60:.1f} min"
