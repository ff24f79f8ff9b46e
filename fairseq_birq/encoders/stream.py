"""A recording while it is heard, chunk by chunk."""

from typing import List, Union

import numpy as np
import torch
from torch import Tensor

from fairseq_birq.encoders.stream_step import StreamStep, last_kept
from fairseq_birq.errors import UserError
from fairseq_birq.structs import Chunks, Encoded


class EncoderStream:
    """What an encoder says of a recording as soon as it can: `push` samples as they come, then `finish`.

    Together the results are the encoder's for the whole recording in the same chunks. Memory stays as it is where `left` is
    limited; else keys and values of all frames are kept.

    Args:
        speech_encoder: a `SpeechEncoder` in eval mode, a causal log-Mel Conformer.
        chunks: see `SpeechEncoder.chunks`.

    Raises:
        UserError: this encoder cannot stream, or is in training mode.
    """

    def __init__(self, speech_encoder, chunks: Chunks):
        speech_encoder.check_streams()
        if speech_encoder.training:
            raise UserError("a stream has no dropout: call encoder.eval() before encoder.stream(...)")
        self.chunks, self.sample_rate = chunks, speech_encoder.frontend.sample_rate
        self._step = StreamStep(speech_encoder)
        self._past = self._step.nothing()
        self._num_layers = speech_encoder.encoder.num_layers
        self._frontend = speech_encoder.frontend
        self._waiting: List[Tensor] = []  # samples that were pushed and not yet moved over, in pieces
        self._is_finished = False

    @property
    def latency_ms(self) -> float:
        """From the beginning of a chunk to the last sample that its frames need: computing comes on top."""
        return 1000.0 * self._step.samples(self.chunks.num_frames) / self.sample_rate

    def push(self, waveform: Union[Tensor, np.ndarray]) -> Encoded:
        """Hidden states of the chunks that are complete now, (1, t, d) each; t is 0 where none is.

        waveform: (S,) float in [-1, 1] at `sample_rate`, any number of samples

        Raises:
            UserError: it has another shape or type, or the stream is finished.
        """
        self._waiting.append(self._checked(waveform))
        size, found = self._step.samples(self.chunks.num_frames), []
        while sum(len(piece) for piece in self._waiting) >= size:
            found.append(self._next(self.chunks.num_frames))
        return self._joined(found)

    def finish(self) -> Encoded:
        """Hidden states of the last frames, which fill no chunk; nothing can be pushed after it."""
        self._check_open()
        self._is_finished = True
        left = sum(len(piece) for piece in self._waiting)
        num_frames = int(self._frontend.output_length(left))
        return self._joined([self._next(num_frames)] if num_frames else [])

    @torch.no_grad()
    def _next(self, num_frames: int) -> List[Tensor]:
        waveform = torch.cat(self._waiting)
        hidden, past = self._step(waveform[None, : self._step.samples(num_frames)], self._past)
        self._waiting = [waveform[num_frames * self._step.step_samples :]]
        left = None if self.chunks.left is None else self.chunks.left * self.chunks.num_frames
        self._past = last_kept(past, left)
        return hidden

    def _joined(self, found: List[List[Tensor]]) -> Encoded:
        nothing = self._past.layers[0].convolved.new_zeros(1, 0, self._step.speech_encoder.dim)
        subsampled, *layers = [torch.cat([nothing, *parts], dim=1) for parts in zip(*found)] or [nothing] * (1 + self._num_layers)
        padding_mask = torch.zeros(subsampled.shape[:2], dtype=torch.bool, device=subsampled.device)
        return Encoded(layers, padding_mask, subsampled=subsampled)

    def _checked(self, waveform) -> Tensor:
        self._check_open()
        waveform = torch.as_tensor(waveform)
        if waveform.dim() != 1:
            raise UserError(f"a stream takes samples of one recording, (samples,), but these have shape {tuple(waveform.shape)}")
        if not waveform.is_floating_point():
            raise UserError(f"the waveform is {waveform.dtype}; give floats in [-1, 1], as 16-bit integers divided by 32768")
        return waveform.to(self._past.layers[0].convolved.device, torch.float32)

    def _check_open(self) -> None:
        if self._is_finished:
            raise UserError("this stream is finished: begin a new one with encoder.stream(...)")
