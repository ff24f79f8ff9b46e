"""Transcripts as text, JSON, subtitles (SRT) and NIST's CTM."""

import json
import re
from typing import Callable, Dict, List, Sequence

from fairseq_birq.tools.transcribe.words import Transcript, Word

CUE_LETTERS = 84  # of a subtitle: two lines of 42
CUE_SECONDS = 7.0
CUE_PAUSE_S = 1.0  # a pause of so long ends a subtitle


def as_txt(transcript: Transcript) -> str:
    """`name<TAB>text`."""
    return f"{_shown(transcript.name)}\t{transcript.text}\n"


def as_json(transcript: Transcript) -> str:
    words = [
        {"word": word.text, "start": round(word.start_s, 3), "end": round(word.end_s, 3), "confidence": round(word.confidence, 4)}
        for word in transcript.words
    ]
    content = {
        "audio": _shown(transcript.name),
        "seconds": round(transcript.seconds, 3),
        "text": transcript.text,
        "confidence": round(transcript.confidence, 4),
        "words": words,
    }
    return json.dumps(content, ensure_ascii=False)


def as_srt(transcript: Transcript) -> str:
    cues = enumerate(subtitles(transcript.words), start=1)
    return "".join(
        f"{number}\n{_clock(cue[0].start_s)} --> {_clock(cue[-1].end_s)}\n{' '.join(word.text for word in cue)}\n\n"
        for number, cue in cues
    )


def as_ctm(transcript: Transcript) -> str:
    """`recording channel start duration word confidence`, in seconds; a space in a recording's name becomes `_`."""
    name = re.sub(r"\s", "_", _shown(transcript.name))
    return "".join(
        f"{name} 1 {word.start_s:.3f} {word.end_s - word.start_s:.3f} {word.text} {word.confidence:.4f}\n"
        for word in transcript.words
    )


FORMATS: Dict[str, Callable[[Transcript], str]] = {"txt": as_txt, "json": as_json, "srt": as_srt, "ctm": as_ctm}


def joined(parts: Sequence[str], form: str) -> str:
    """Several transcripts in one file; JSON becomes a list."""
    return "[\n" + ",\n".join(parts) + "\n]\n" if form == "json" else "".join(parts)


def subtitles(words: Sequence[Word]) -> List[List[Word]]:
    """Words of each subtitle: short enough to read, and never across a pause."""
    cues: List[List[Word]] = []
    for word in words:
        if cues and _fits(cues[-1], word):
            cues[-1].append(word)
        else:
            cues.append([word])
    return cues


def _fits(cue, word) -> bool:
    letters = sum(len(other.text) + 1 for other in cue) + len(word.text)
    pause = word.start_s - cue[-1].end_s
    return letters <= CUE_LETTERS and word.end_s - cue[0].start_s <= CUE_SECONDS and pause < CUE_PAUSE_S


def _clock(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{milliseconds // 1000:02d},{milliseconds % 1000:03d}"


def _shown(name: str) -> str:
    """A file name that any file can hold, also where it is not UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
