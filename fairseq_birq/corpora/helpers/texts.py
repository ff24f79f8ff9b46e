"""Lexica of letters and lists of speakers beside manifests."""

from pathlib import Path
from typing import Dict, Iterable, Sequence

from fairseq_birq.corpora.helpers.collection import Utterance
from fairseq_birq.data.manifest import write_lines
from fairseq_birq.data.transcripts import to_letters


def write_lexicon(path, texts: Iterable[str]) -> None:
    """Write `word<TAB>l e t t e r s |` for every word of the texts, sorted."""
    words = sorted({word for text in texts for word in text.split()})
    write_lines(path, (f"{word}\t{to_letters(word)}" for word in words))


def write_speakers(out, parts: Dict[str, Sequence[Utterance]]) -> None:
    """Write `<split>.spk`: of every row its speaker, whose folder the audio is in."""
    for split, utterances in parts.items():
        write_lines(Path(out) / f"{split}.spk", (Path(item.path).parent.name for item in utterances))
