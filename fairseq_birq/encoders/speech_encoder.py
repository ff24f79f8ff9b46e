"""From a waveform to the hidden states of all layers: what pre-training makes and everything else uses."""

from typing import Any, Callable, Optional

import torch
from torch import Tensor, nn

from fairseq_birq.encoders.base import Encoder
from fairseq_birq.errors import UserError
from fairseq_birq.modules.chunks import checked_left, chunk_frames
from fairseq_birq.structs import Chunks, Encoded, Features


class SpeechEncoder(nn.Module):
    """A frontend and an encoder: plain PyTorch, no quantizer, no heads, no fairseq needed to call it.

    Args:
        frontend: see `fairseq_birq.frontends`.
        encoder: see `fairseq_birq.encoders`.
    """

    frontend: Any  # see `fairseq_birq.frontends`
    encoder: Encoder

    def __init__(self, frontend: nn.Module, encoder: Encoder):
        super().__init__()
        self.frontend = frontend
        self.encoder = encoder

    @property
    def dim(self) -> int:
        return self.encoder.dim

    def output_length(self, num_samples):
        """Encoder frames of `num_samples` samples (int or tensor)."""
        return self.frontend.output_length(num_samples)

    def forward(
        self,
        waveform: Tensor,
        padding_mask: Optional[Tensor] = None,
        num_layers: Optional[int] = None,
        mask_features: Optional[Callable[[Features], Features]] = None,
        chunks: Optional[Chunks] = None,
    ) -> Encoded:
        """Hidden states of layers 1 to `num_layers`.

        Args:
            waveform: (B, S) float in [-1, 1] at the frontend's sample rate.
            padding_mask: (B, S) bool, or None where nothing is padded.
            num_layers: stop there; None runs all.
            mask_features: applied to the normalised features before subsampling.
            chunks: attention stays in them, as in a stream (see `chunks`); None: every frame sees the whole utterance.

        Raises:
            UserError: see `checked_input`; or chunks, of an encoder that sees the future.
        """
        padding_mask = checked_input(self, waveform, padding_mask)
        features = self.frontend.features(waveform, padding_mask)
        if mask_features is not None:
            features = mask_features(features)
        hidden, frame_padding_mask = self.frontend.subsample(features)
        return self.encoder(hidden, frame_padding_mask, num_layers, chunks)

    @property
    def frame_ms(self) -> float:
        """From one encoder frame to the next."""
        return self.frontend.step_samples * 1000.0 / self.frontend.sample_rate

    def check_streams(self) -> None:
        """Raises UserError where an output needs audio after its chunk."""
        self.encoder.check_streams()
        self.frontend.check_streams()

    def chunks(self, chunk_ms: float, left_chunks: Optional[int] = None) -> Chunks:
        """Chunks as `forward` takes them. The first begins with the utterance, the last may be shorter.

        Args:
            chunk_ms: a multiple of the encoder frame.
            left_chunks: chunks before its own that a frame sees; None: all.

        Raises:
            UserError: the length or the number cannot be.
        """
        return Chunks(chunk_frames(chunk_ms, self.frame_ms), checked_left(left_chunks, "`left_chunks`"))

    def stream(self, chunk_ms: float, left_chunks: Optional[int] = None):
        """A recording while it is heard: `push(waveform)` and `finish()` give the hidden states of every chunk.

        They are what `self(waveform, chunks=self.chunks(chunk_ms, left_chunks))` gives for the whole recording.

        Returns:
            an `EncoderStream`.

        Raises:
            UserError: see `chunks` and `check_streams`; or the encoder is in training mode.
        """
        from fairseq_birq.encoders.stream import EncoderStream

        return EncoderStream(self, self.chunks(chunk_ms, left_chunks))


def checked_input(speech_encoder, waveform: Tensor, padding_mask: Optional[Tensor]) -> Tensor:
    """The padding mask of a batch, (B, S) bool; None becomes one without padding.

    Raises:
        UserError: shapes or types are not those that `forward` names; in eval mode, the mask is inverted or has holes; or
            torch.jit.trace or torch.export is at work.
    """
    _refuse_tracing()
    shape = tuple(waveform.shape)
    if waveform.dim() != 2:
        how = {1: ", as waveform[None]", 3: ", as waveform.mean(1) of (batch, channels, samples)"}.get(waveform.dim(), "")
        raise UserError(f"the waveform has shape {shape}; give (batch, samples){how}")
    if shape[0] > 16 * shape[1] and speech_encoder.output_length(shape[1]) == 0:
        raise UserError(f"the waveform has shape {shape}, as (samples, channels) would; give (batch, samples), mono")
    if not waveform.is_floating_point():
        raise UserError(f"the waveform is {waveform.dtype}; give floats in [-1, 1], as 16-bit integers divided by 32768")
    if padding_mask is None:
        return torch.zeros_like(waveform, dtype=torch.bool)
    if padding_mask.shape != waveform.shape or padding_mask.dtype != torch.bool:
        raise UserError(
            f"the padding mask is {padding_mask.dtype} of shape {tuple(padding_mask.shape)}; give bool, True on padding, of the "
            f"waveform's shape {shape}"
        )
    if not speech_encoder.training and bool((padding_mask[:, :-1] & ~padding_mask[:, 1:]).any() | _is_all_padding(padding_mask)):
        raise UserError(
            "padding comes after audio, but this padding mask has it before, or everywhere: True is padding, not audio"
        )
    return padding_mask


def _is_all_padding(padding_mask: Tensor) -> Tensor:
    return padding_mask.all() if padding_mask.numel() else padding_mask.new_zeros(())


def _refuse_tracing() -> None:
    exporting = getattr(getattr(torch, "compiler", None), "is_exporting", lambda: False)
    if torch.jit.is_tracing() or exporting():
        raise UserError(
            "torch.jit.trace and torch.export cannot follow this encoder: it looks at the padding to save work, and returns a "
            "dataclass. They can follow fairseq_birq.tools.export.traceable.TraceableEncoder(encoder) of a log-Mel Conformer, "
            "which `birq-export --to onnx` writes; torch.compile takes this encoder as it is"
        )
