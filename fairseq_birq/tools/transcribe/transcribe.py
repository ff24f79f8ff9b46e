"""Recordings to transcripts: pieces of many recordings share batches, and come back in order."""

from dataclasses import dataclass, field
from typing import Callable, Iterable, Iterator, List, Optional, Union

import numpy as np

from fairseq_birq.data.audio import AudioError
from fairseq_birq.decoding.base import Decoder
from fairseq_birq.errors import UserError
from fairseq_birq.tools.transcribe.pieces import MIN_PIECE_S, read_pieces
from fairseq_birq.tools.transcribe.recogniser import Recogniser
from fairseq_birq.tools.transcribe.recordings import Recording
from fairseq_birq.tools.transcribe.words import Failure, Transcript, words_of

_BATCHES_AHEAD = 8  # audio of so many batches is read at once, so that pieces of equal length meet


@dataclass
class _Open:
    """A recording on its way. pieces: words by a piece's first sample, in order; None while it waits to be decoded."""

    name: str
    seconds: float = 0.0
    is_read: bool = False
    failure: Optional[str] = None
    pieces: dict = field(default_factory=dict)

    @property
    def is_done(self) -> bool:
        return self.is_read and None not in self.pieces.values()

    def close(self) -> Union[Transcript, Failure]:
        if self.failure is not None:
            return Failure(self.name, self.failure)
        return Transcript(self.name, self.seconds, [word for words in self.pieces.values() for word in words])


@dataclass
class _Piece:
    of: _Open
    begin: int
    wave: np.ndarray


def transcribe(
    recogniser: Recogniser,
    decoder: Decoder,
    recordings: Iterable[Recording],
    max_seconds: float = 30.0,
    batch_seconds: float = 100.0,
    heard: Callable[[float], None] = lambda seconds: None,
) -> Iterator[Union[Transcript, Failure]]:
    """One result per recording, in their order; one that cannot be read is a `Failure`, and the rest goes on.

    max_seconds: longer recordings are cut, in pauses, into pieces of at most so much
    batch_seconds: of audio, with padding, that the model reads at once
    heard: is told the seconds of audio of every batch, after it

    Raises:
        UserError: a setting is out of range.
    """
    if max_seconds < MIN_PIECE_S or batch_seconds <= 0:
        raise UserError(
            f"pieces must be at least {MIN_PIECE_S} s long and batches more than 0 s, but these are {max_seconds} and "
            f"{batch_seconds} s"
        )
    opened, waiting = [], []
    limit = _BATCHES_AHEAD * batch_seconds * recogniser.sample_rate
    for recording in recordings:
        opened.append(_Open(recording.name))
        for piece in _pieces(opened[-1], recording.path, recogniser.sample_rate, max_seconds):
            waiting.append(piece)
            if sum(len(each.wave) for each in waiting) >= limit:
                _decode(recogniser, decoder, waiting, batch_seconds, heard)
        yield from _done(opened)
    _decode(recogniser, decoder, waiting, batch_seconds, heard)
    yield from _done(opened)


def _pieces(of: _Open, path, sample_rate, max_seconds) -> Iterator[_Piece]:
    try:
        for begin, wave in read_pieces(path, sample_rate, max_seconds):
            of.seconds, of.pieces[begin] = (begin + len(wave)) / sample_rate, None
            yield _Piece(of, begin, wave)
    except AudioError as error:
        of.failure = str(error)
    of.is_read = True


def _done(opened: List[_Open]):
    while opened and opened[0].is_done:
        yield opened.pop(0).close()


def _decode(recogniser, decoder, waiting: List[_Piece], batch_seconds, heard) -> None:
    """Give every waiting piece's words to its recording; the longest first, which need the most memory."""
    waiting.sort(key=lambda piece: -len(piece.wave))
    limit = batch_seconds * recogniser.sample_rate
    while waiting:
        count = max(1, int(limit // max(1, len(waiting[0].wave))))
        batch, waiting[:] = waiting[:count], waiting[count:]
        log_probs, lengths = recogniser.log_probs([piece.wave for piece in batch])
        for piece, nbest in zip(batch, decoder(log_probs, lengths)):
            begin_s, seconds = piece.begin / recogniser.sample_rate, len(piece.wave) / recogniser.sample_rate
            piece.of.pieces[piece.begin] = words_of(nbest[0], recogniser.symbols, recogniser.frame_seconds, begin_s, seconds)
        heard(sum(len(piece.wave) for piece in batch) / recogniser.sample_rate)
