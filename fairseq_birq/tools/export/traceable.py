"""The log-Mel Conformer without a step that depends on values, as ONNX's exporter wants it."""

from typing import Tuple

import torch
from torch import Tensor, nn

from fairseq_birq.encoders.base import LayerInputs
from fairseq_birq.encoders.speech_encoder import SpeechEncoder
from fairseq_birq.frontends.logmel import frames_padding, normalise_utterance
from fairseq_birq.modules.attention import attention_keep, relative_table, rotary_table
from fairseq_birq.structs import Features


class TraceableEncoder(nn.Module):
    """What a `SpeechEncoder` computes, by its own modules: no blocks by length, and attention is always masked.

    Args:
        speech_encoder: with `LogMelFrontend` and `ConformerEncoder`.
    """

    def __init__(self, speech_encoder: SpeechEncoder):
        super().__init__()
        self.speech_encoder = speech_encoder

    def forward(self, waveform: Tensor, padding_mask: Tensor) -> Tuple[Tensor, Tensor]:
        """waveform: (B, S) float32, padding_mask: (B, S) bool -> (1 + K, B, T, d) float32 and (B, T) bool."""
        x, padding_mask = self.speech_encoder.frontend.subsample(self._features(waveform, padding_mask))
        encoder, hidden = self.speech_encoder.encoder, [x]
        inputs = self._layer_inputs(x.shape[1], padding_mask)
        for index in range(encoder.num_layers):
            hidden.append(encoder.apply_layer(index, hidden[-1], inputs))
        return torch.stack(hidden), padding_mask

    def _features(self, waveform: Tensor, padding_mask: Tensor) -> Features:
        frontend = self.speech_encoder.frontend
        x = frontend.log_mel.log_mel_of(waveform.unfold(1, frontend.log_mel.window_samples, frontend.log_mel.hop_samples))
        padding = frames_padding(frontend, waveform, padding_mask, x.shape[1])
        features = Features(x.masked_fill(padding[..., None], 0.0), padding)
        return normalise_utterance(features) if frontend.feature_norm == "utterance" else features

    def _layer_inputs(self, num_frames: int, padding_mask: Tensor) -> LayerInputs:
        """A window as long as the batch lets every frame attend to itself, so that no softmax is over nothing."""
        encoder, device = self.speech_encoder.encoder, padding_mask.device
        keep = attention_keep(padding_mask, num_frames, encoder.attention_window or num_frames, device)
        if encoder.positions == "rotary":
            return LayerInputs(padding_mask, keep, rotary_table(num_frames, encoder.head_dim, device))
        return LayerInputs(padding_mask, keep, relative_table(num_frames, encoder.dim, device))
