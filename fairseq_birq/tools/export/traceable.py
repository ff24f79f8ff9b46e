"""The log-Mel Conformer without a step that depends on values, as ONNX's exporter wants it."""

from typing import Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairseq_birq.encoders.speech_encoder import SpeechEncoder
from fairseq_birq.frontends.logmel import frames_padding
from fairseq_birq.modules.attention import attention_keep, relative_table
from fairseq_birq.modules.rotary import rotary_table
from fairseq_birq.structs import Features, LayerInputs


class TraceableEncoder(nn.Module):
    """What a `SpeechEncoder` computes, by its own modules: no blocks by length, and attention is always masked.

    Args:
        speech_encoder: with `LogMelFrontend` and `ConformerEncoder`.
    """

    def __init__(self, speech_encoder: SpeechEncoder):
        super().__init__()
        self.speech_encoder = speech_encoder
        log_mel = speech_encoder.frontend.log_mel
        self.shortest = log_mel.window_samples + (speech_encoder.frontend.frames_per_step - 1) * log_mel.hop_samples

    def forward(self, waveform: Tensor, padding_mask: Tensor) -> Tuple[Tensor, Tensor]:
        """waveform: (B, S) float32, padding_mask: (B, S) bool -> (1 + K, B, T, d) float32 and (B, T) bool."""
        frontend, log_mel = self.speech_encoder.frontend, self.speech_encoder.frontend.log_mel
        steps = (
            _at_least_zero((waveform.shape[1] - log_mel.window_samples) // log_mel.hop_samples + 1) // frontend.frames_per_step
        )
        waveform = F.pad(waveform, (0, _at_least_zero(self.shortest - waveform.shape[1])))  # one frame, which is cut off below
        x, padding_mask = frontend.subsample(self._features(waveform, padding_mask))
        encoder, hidden = self.speech_encoder.encoder, [x]
        inputs = self._layer_inputs(x.shape[1], padding_mask)
        for index in range(encoder.num_layers):
            hidden.append(encoder.apply_layer(index, hidden[-1], inputs))
        return torch.stack(hidden)[:, :, :steps], padding_mask[:, :steps]

    def _features(self, waveform: Tensor, padding_mask: Tensor) -> Features:
        frontend = self.speech_encoder.frontend
        x = frontend.log_mel.log_mel_of(waveform.unfold(1, frontend.log_mel.window_samples, frontend.log_mel.hop_samples))
        padding = frames_padding(frontend, waveform, padding_mask, x.shape[1])
        features = Features(x.masked_fill(padding[..., None], 0.0), padding)
        return frontend.normalise(features)

    def _layer_inputs(self, num_frames: int, padding_mask: Tensor) -> LayerInputs:
        """A window as long as the batch lets every frame attend to itself, so that no softmax is over nothing."""
        encoder, device = self.speech_encoder.encoder, padding_mask.device
        keep = attention_keep(padding_mask, num_frames, encoder.attention_window or num_frames, device)
        if encoder.positions == "rotary":
            return LayerInputs(padding_mask, keep, rotary_table(num_frames, encoder.head_dim, device))
        return LayerInputs(padding_mask, keep, relative_table(num_frames, encoder.dim, device))


def _at_least_zero(number):
    """Of an int, of one that torch.export has no value for, or of a tensor, which torch.jit.trace makes of ints."""
    return number.clamp(min=0) if isinstance(number, Tensor) else torch.sym_max(number, 0)
