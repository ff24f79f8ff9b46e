"""One step of a stream: the next chunk's audio and what is kept of the audio before it in, hidden states out."""

from typing import List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor, nn

from fairseq_birq.encoders.conformer import LayerPast
from fairseq_birq.modules.attention import additive, relative_table
from fairseq_birq.modules.rotary import rotary_table
from fairseq_birq.modules.running_norm import Heard, normalise_running, nothing_heard
from fairseq_birq.structs import Features, LayerInputs


class Past(NamedTuple):
    """What is kept of a stream between two steps. B streams go on beside each other; P frames are kept by attention."""

    heard: Heard  # statistics of the features
    subsampled: Tuple[Tensor, Tensor]  # (B, D, 1) and (B, d, 1), see `ConvSubsampling.step`
    layers: Tuple[LayerPast, ...]


class StreamStep(nn.Module):
    """A log-Mel Conformer that goes on where it stopped; plain operations, so that exporters can follow.

    Args:
        speech_encoder: with `LogMelFrontend` and a causal `ConformerEncoder`, in eval mode.
    """

    def __init__(self, speech_encoder):
        super().__init__()
        self.speech_encoder = speech_encoder
        log_mel, steps = speech_encoder.frontend.log_mel, speech_encoder.frontend.frames_per_step
        self.overlap_samples = log_mel.window_samples - log_mel.hop_samples  # that a step shares with the next one
        self.step_samples = steps * log_mel.hop_samples

    def samples(self, num_frames: int) -> int:
        """Samples that a step of so many encoder frames hears; it moves on by `step_samples` times the frames."""
        return num_frames * self.step_samples + self.overlap_samples

    def nothing(self, batch: int = 1, num_kept: int = 0) -> Past:
        """The past of a stream that begins. num_kept: frames of zeros in place of keys and values, which `keep` must hide."""
        frontend, encoder = self.speech_encoder.frontend, self.speech_encoder.encoder
        convolution = frontend.subsampling.conv1
        zeros, num_heads = convolution.weight.new_zeros, encoder.dim // encoder.head_dim
        layers = [
            LayerPast(
                zeros(batch, num_kept, num_heads, encoder.head_dim),
                zeros(batch, num_kept, num_heads, encoder.head_dim),
                zeros(batch, layer.convolution.num_before, encoder.dim),
            )
            for layer in encoder.layers
        ]
        subsampled = zeros(batch, convolution.in_channels, 1), zeros(batch, encoder.dim, 1)
        return Past(nothing_heard(batch, frontend.feature_dim, convolution.weight.device), subsampled, tuple(layers))

    def forward(self, waveform: Tensor, past: Past, keep: Optional[Tensor] = None) -> Tuple[List[Tensor], Past]:
        """The next T encoder frames.

        Args:
            waveform: (B, samples(T)) float.
            past: of the step before.
            keep: which of the P kept and T new keys a frame sees, bool, broadcast to (B, 1, T, P + T); None: all.

        Returns:
            what enters the first layer and the outputs of layers 1 to K, (B, T, d) each, and the past of the next step.
        """
        frontend, encoder = self.speech_encoder.frontend, self.speech_encoder.encoder
        features, heard = self._features(waveform, past.heard)
        x, subsampled = frontend.subsampling.step(features, past.subsampled)
        hidden, layers = [x], []
        inputs = self._inputs(x, past.layers[0].keys.shape[1], keep)
        for layer, kept in zip(encoder.layers, past.layers):
            x, kept = layer.step(x, inputs, kept)
            hidden.append(x)
            layers.append(kept)
        return hidden, Past(heard, subsampled, tuple(layers))

    def _features(self, waveform: Tensor, heard: Heard) -> Tuple[Tensor, Heard]:
        frontend = self.speech_encoder.frontend
        log_mel = frontend.log_mel
        with torch.autocast(waveform.device.type, enabled=False):
            x = log_mel.log_mel_of(waveform.float().unfold(1, log_mel.window_samples, log_mel.hop_samples))
        if frontend.feature_norm != "running":
            return x, heard
        features, heard = normalise_running(Features(x, torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)), heard)
        return features.x, heard

    def _inputs(self, x: Tensor, num_kept: int, keep: Optional[Tensor]) -> LayerInputs:
        encoder, num_frames = self.speech_encoder.encoder, x.shape[1]
        if encoder.attention_window > 0:
            near = _near(num_frames, num_kept, encoder.attention_window, x.device)
            keep = near if keep is None else keep & near
        positions: Tuple[Tensor, ...]
        if encoder.positions == "rotary":
            positions = rotary_table(num_kept + num_frames, encoder.head_dim, x.device)
        else:
            positions = (relative_table(num_frames, encoder.dim, x.device, num_kept)[0].to(x.dtype),)
        return LayerInputs(None, additive(keep, x.dtype), positions)


def last_kept(past: Past, num_frames: Optional[int]) -> Past:
    """The same with keys and values of the last frames alone; None: of all."""
    if num_frames is None:
        return past
    layers = []
    for layer in past.layers:
        begin = max(0, layer.keys.shape[1] - num_frames)
        layers.append(layer._replace(keys=layer.keys[:, begin:], values=layer.values[:, begin:]))
    return past._replace(layers=tuple(layers))


def _near(num_frames: int, num_kept: int, window: int, device) -> Tensor:
    """(T, P + T) bool: keys within a window to each side."""
    keys = torch.arange(num_kept + num_frames, device=device)
    return (keys[num_kept:, None] - keys[None, :]).abs() <= window
