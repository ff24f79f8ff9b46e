"""Recordings to transcripts while they are heard: text after every chunk."""

import sys
import time
from typing import Callable, Iterable, Iterator, Optional, Union

import numpy as np
import torch
from torch import Tensor

from fairseq_birq.data.audio import AudioError, read
from fairseq_birq.decoding.greedy import GreedyStream
from fairseq_birq.modules.ctc_frames import ctc_frames
from fairseq_birq.tools.transcribe.recogniser import Recogniser
from fairseq_birq.tools.transcribe.recordings import Recording
from fairseq_birq.tools.transcribe.words import Failure, Transcript, words_of

STDIN = "-"  # as audio: 16-bit mono samples of this machine's byte order at the model's rate, from stdin
_BLOCK_S = 60  # of a file, read at once
_SHOWN = 60  # symbols of the text so far that a line shows


class StreamingRecogniser:
    """A recogniser that hears one recording after the other, chunk by chunk.

    Args:
        recogniser: of a causal model.
        chunk_ms, left_chunks: see `SpeechEncoder.chunks`.

    Raises:
        UserError: the model cannot stream, or the chunks cannot be.
    """

    def __init__(self, recogniser: Recogniser, chunk_ms: float, left_chunks: Optional[int]):
        self.recogniser, self.chunk_ms, self.left_chunks = recogniser, chunk_ms, left_chunks
        self.compute_seconds = self.audio_seconds = 0.0  # of all chunks so far
        self.latency_ms = self.stream().latency_ms

    def stream(self):
        return self.recogniser.model.speech_encoder.stream(self.chunk_ms, self.left_chunks)

    def latency(self) -> str:
        """What chunks bring with them, for people."""
        left = "all" if self.left_chunks is None else self.left_chunks
        return (
            f"chunks of {self.chunk_ms:g} ms, {left} before each: a sound's text comes at most {self.latency_ms:g} ms after it, "
            "and what computing takes"
        )

    def speed(self) -> str:
        """What computing took, for people."""
        share = self.compute_seconds / self.audio_seconds if self.audio_seconds else 0.0
        return f"computing took {share:.3f} of the time of {self.audio_seconds:.1f} s of audio"

    def transcribe(
        self,
        recordings: Iterable[Recording],
        said: Callable[[str], None] = lambda line: None,
        heard: Callable[[float], None] = lambda seconds: None,
    ) -> Iterator[Union[Transcript, Failure]]:
        """One result per recording, in their order.

        said: is told `name<TAB>seconds heard<TAB>text so far` after every chunk with new letters
        heard: is told the seconds of audio of every piece that was read
        """
        for recording in recordings:
            try:
                yield self._one(recording, said, heard)
            except AudioError as error:
                yield Failure(recording.name, str(error))

    def _one(self, recording: Recording, said, heard) -> Transcript:
        rate, stream, num_samples = self.recogniser.sample_rate, self.stream(), 0
        found = GreedyStream(0, forbidden=(1, 2, 3))
        size = round(self.chunk_ms * rate / 1000)
        for wave in _chunks(recording.path, rate, size):
            num_samples += len(wave)
            self._hear(found, lambda wave=wave: stream.push(wave), recording.name, num_samples, said)
            self.audio_seconds += len(wave) / rate
            heard(len(wave) / rate)
        self._hear(found, stream.finish, recording.name, num_samples, said)
        words = words_of(found.hypothesis(), self.recogniser.symbols, self.recogniser.frame_seconds, 0.0, num_samples / rate)
        return Transcript(recording.name, num_samples / rate, words)

    def _hear(self, found: GreedyStream, more, name: str, num_samples: int, said) -> None:
        begin = time.perf_counter()
        is_new = found.push(self._log_probs(more().last))
        self.compute_seconds += time.perf_counter() - begin
        if is_new:
            seconds = num_samples / self.recogniser.sample_rate
            shown = words_of(found.hypothesis(_SHOWN), self.recogniser.symbols, self.recogniser.frame_seconds, 0.0, seconds)
            said(f"{name}\t{seconds:.2f} s\t{' '.join(word.text for word in shown)}")

    @torch.no_grad()
    def _log_probs(self, hidden: Tensor) -> Tensor:
        """(1, t, d) -> (t * upsample, V) float32 natural log-probabilities."""
        model = self.recogniser.model
        return ctc_frames(model.output(hidden), model.upsample)[0].float().log_softmax(-1)


def _chunks(path: str, sample_rate: int, size: int) -> Iterator[np.ndarray]:
    """A recording's samples, so many at a time. Raises AudioError as `fairseq_birq.data.audio.read`."""
    if path == STDIN:
        yield from _of_stdin(size)
        return
    begin, block = 0, max(1, _BLOCK_S * sample_rate // size) * size
    while True:
        wave, _ = read(path, sample_rate, begin, block)
        for start in range(0, len(wave), size):
            yield wave[start : start + size]
        begin += len(wave)
        if len(wave) < block:
            return


def _of_stdin(size: int) -> Iterator[np.ndarray]:
    """As soon as they are there."""
    while True:
        content = sys.stdin.buffer.read(2 * size)
        yield np.frombuffer(content[: len(content) // 2 * 2], dtype=np.int16).astype(np.float32) / 32768.0
        if len(content) < 2 * size:
            return
