"""Log-Mel features with Kaldi's conventions, batched and on the device, and the frontend made of them."""

from dataclasses import dataclass
from typing import Optional

import torch
from torch import Tensor, nn

from fairseq_birq.errors import UserError
from fairseq_birq.frontends.subsampling import ConvSubsampling
from fairseq_birq.modules.cpu import by_blocks
from fairseq_birq.modules.float32_buffers import KeepsFloat32
from fairseq_birq.modules.row_dropout import RowDropout
from fairseq_birq.modules.running_norm import normalise_running
from fairseq_birq.settings import refuse_removed, setting
from fairseq_birq.structs import Features

_INT16_SCALE = 32768.0  # Kaldi's samples are 16-bit integers
_PREEMPHASIS = 0.97
_LOWEST_HZ = 20.0
_FLOOR = torch.finfo(torch.float32).eps
_VARIANCE_FLOOR = 1e-10


@dataclass
class LogMelConfig:
    """Settings of the log-Mel frontend. `raw_input` targets read the first three whatever the frontend is."""

    num_mels: int = setting(80, "Mel bins")
    window_ms: float = setting(25.0, "analysis window")
    hop_ms: float = setting(10.0, "step between feature frames")
    feature_norm: str = setting(
        "utterance",
        "zero mean and unit variance per Mel bin over the utterance's own frames; running: over those so far, which can stream",
        ["utterance", "running", "none"],
    )
    subsampling: str = setting("conv1d", "kind of the two stride-2 convolutions (logmel): conv1d", ["conv1d", "conv2d"])


class LogMel(KeepsFloat32):
    """Log-Mel filter bank energies as Kaldi's `compute-fbank-feats` gives them, without dither.

    Frames lie inside the signal (`snip_edges`); each has its mean removed, is pre-emphasised, weighted with Povey's
    window and transformed; triangular filters cover 20 Hz to Nyquist. An utterance has the same features alone and in
    any batch, bit for bit on the CPU. Always float32, also under autocast and in a model that was cast.

    Raises:
        UserError: a filter has no FFT bin, because there are too many for the window.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, sample_rate=16000, num_mels=80, window_ms=25.0, hop_ms=10.0):
        super().__init__()
        self.sample_rate, self.num_mels = sample_rate, num_mels
        self.window_ms, self.hop_ms = window_ms, hop_ms
        self.window_samples = int(sample_rate * window_ms / 1000)
        self.hop_samples = int(sample_rate * hop_ms / 1000)
        self.fft_size = 1 << (self.window_samples - 1).bit_length()
        hann = torch.hann_window(self.window_samples, periodic=False, dtype=torch.float64)
        self.register_buffer("window", (hann**0.85).float(), persistent=False)
        filters = mel_filters(num_mels, self.fft_size, sample_rate)
        if not filters.any(0).all():
            raise UserError(
                f"`frontend.num_mels` = {num_mels} is too many for windows of {window_ms} ms: use fewer bins or longer windows"
            )
        self.register_buffer("filters", filters.float(), persistent=False)

    def settings(self) -> str:
        """What the features depend on, for fingerprints."""
        return f"logmel rate={self.sample_rate} mels={self.num_mels} window_ms={self.window_ms:g} hop_ms={self.hop_ms:g}"

    def feature_length(self, num_samples):
        """Frames of `num_samples` samples (int or integer tensor); 0 if shorter than one window."""
        return at_least_zero((num_samples - self.window_samples) // self.hop_samples + 1)

    def forward(self, waveform: Tensor, padding_mask: Optional[Tensor] = None) -> Features:
        """waveform: (B, S) float in [-1, 1], padding_mask: (B, S) bool or None -> Features (B, F, num_mels) float32."""
        num_frames = self.feature_length(waveform.shape[1])
        frame_padding = frames_padding(self, waveform, padding_mask, num_frames)
        x = waveform.new_zeros(waveform.shape[0], num_frames, self.num_mels, dtype=torch.float32)
        if num_frames == 0:
            return Features(x, frame_padding)
        frames = waveform.float().unfold(1, self.window_samples, self.hop_samples)
        with torch.autocast(waveform.device.type, enabled=False):
            if waveform.device.type == "cpu":
                by_blocks(self.log_mel_of, frames, (~frame_padding).sum(1).tolist(), out=x)
            else:
                x = self.log_mel_of(frames)
        return Features(x.masked_fill_(frame_padding[..., None], 0.0), frame_padding)

    def log_mel_of(self, frames: Tensor) -> Tensor:
        """Kaldi's order of float32 operations, so that digital silence rounds as there; then a float64 transform.

        Povey's window is 0 on a frame's first sample, which is left out. frames: (..., window_samples) float32 ->
        (..., num_mels) float32.
        """
        frames = frames * _INT16_SCALE
        frames = frames - frames.mean(-1, keepdim=True)
        emphasised = frames[..., :-1] * -_PREEMPHASIS
        emphasised = emphasised.add_(frames[..., 1:]).mul_(self.window[1:])
        spectrum = torch.fft.rfft(emphasised.double(), n=self.fft_size)
        power = spectrum.real.square() + spectrum.imag.square()
        power = power.float() if power.device.type == "cpu" else power  # elsewhere, float64 hides the batch's order of sums
        return (power @ self.filters.to(power.dtype)).float().clamp_(min=_FLOOR).log_()


def at_least_zero(length):
    return length.clamp(min=0) if isinstance(length, Tensor) else max(0, length)


def frames_padding(frontend, waveform: Tensor, padding_mask: Optional[Tensor], num_frames: int) -> Tensor:
    """Which feature frames are padding. padding_mask: (B, S) bool or None -> (B, num_frames) bool."""
    if padding_mask is None:
        return torch.zeros(waveform.shape[0], num_frames, dtype=torch.bool, device=waveform.device)
    lengths = frontend.feature_length((~padding_mask).sum(1))
    return torch.arange(num_frames, device=waveform.device) >= lengths[:, None]


def mel_filters(num_mels: int, fft_size: int, sample_rate: float) -> Tensor:
    """Triangles on the Mel scale, 20 Hz to Nyquist, as Kaldi's `MelBanks`: (fft_size / 2 + 1, num_mels) float64."""

    def mel(hertz):
        return 1127.0 * torch.log1p(torch.as_tensor(hertz, dtype=torch.float64) / 700.0)

    edges = torch.linspace(mel(_LOWEST_HZ).item(), mel(sample_rate / 2).item(), num_mels + 2, dtype=torch.float64)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    bins = mel(torch.arange(fft_size // 2 + 1, dtype=torch.float64) * sample_rate / fft_size)[:, None]
    rising, falling = (bins - left) / (centre - left), (right - bins) / (right - centre)
    return torch.minimum(rising, falling).clamp(min=0)


def normalise_utterance(features: Features) -> Features:
    """Zero mean and unit variance per bin over each utterance's own frames; a constant bin becomes 0.

    Statistics in float64, so that the batch's padding cannot change the float32 result.
    """
    valid = ~features.padding_mask[..., None]
    num_valid = valid.sum(1, keepdim=True).clamp(min=1)
    x = features.x.double() * valid
    x = x.sub_(x.sum(1, keepdim=True) / num_valid).mul_(valid)
    variance = x.square().sum(1, keepdim=True) / num_valid
    return Features(x.mul_((variance + _VARIANCE_FLOOR).rsqrt()).float(), features.padding_mask)


def stack_frames(
    features: Features, num_frames: int, num_stacks: Optional[Tensor] = None, width: Optional[int] = None
) -> Features:
    """Join n consecutive frames (BEST-RQ, arXiv 2202.01855, section 3.1): (B, F, D) -> (B, F // n, n * D).

    Args:
        features: valid length L gives L // n stacks.
        num_frames: n.
        num_stacks: (B,) valid stacks wanted instead; the last valid frame is repeated where n * num_stacks > L.
        width: with `num_stacks`, the batch's stacks; by default F // n or the largest of `num_stacks`.
    """
    lengths = (~features.padding_mask).sum(1)
    if num_stacks is None:
        width = features.x.shape[1] // num_frames
        x, num_stacks = features.x[:, : width * num_frames], lengths // num_frames
    else:
        width = max(features.x.shape[1] // num_frames, int(num_stacks.max())) if width is None else width
        x = _repeat_last_frames(features.x, lengths, width * num_frames)
    x = x.reshape(x.shape[0], width, num_frames * x.shape[2])
    padding_mask = torch.arange(width, device=x.device) >= num_stacks[:, None]
    return Features(x.masked_fill(padding_mask[..., None], 0.0), padding_mask)


def _repeat_last_frames(x: Tensor, lengths: Tensor, num_frames: int) -> Tensor:
    """(B, F, D) -> (B, num_frames, D), each utterance's last frame instead of what comes after it."""
    if x.shape[1] == 0:
        return x.new_zeros(x.shape[0], num_frames, x.shape[2])
    frame = torch.arange(num_frames, device=x.device)
    source = torch.minimum(frame, (lengths[:, None] - 1).clamp(min=0))
    return x.gather(1, source[..., None].expand(-1, -1, x.shape[2]))


class LogMelFrontend(nn.Module):
    """Log-Mel features and two stride-2 convolutions: one encoder frame per 4 feature frames.

    Args:
        dim: width of the encoder.
        feature_norm: "utterance", see `normalise_utterance`; "running", see `normalise_running`; or "none".
        dropout: on what enters the encoder.
    """

    Config = LogMelConfig
    frames_per_step = 4

    def __init__(
        self,
        dim,
        feature_norm="utterance",
        dropout=0.0,
        sample_rate=16000,
        num_mels=80,
        window_ms=25.0,
        hop_ms=10.0,
    ):
        super().__init__()
        self.log_mel = LogMel(sample_rate, num_mels, window_ms, hop_ms)
        self.dim, self.feature_dim, self.sample_rate = dim, num_mels, sample_rate
        self.step_samples = self.frames_per_step * self.log_mel.hop_samples
        self.feature_norm = feature_norm
        self.subsampling = ConvSubsampling(num_mels, dim)
        self.dropout = RowDropout(dropout)

    @classmethod
    def settings(cls, cfg) -> dict:
        """Keyword arguments, but for `dim`. cfg: a `FrontendConfig`."""
        refuse_removed("model.frontend.subsampling", cfg.subsampling, "conv1d")
        shared = dict(dropout=cfg.dropout, sample_rate=cfg.sample_rate)
        return dict(feature_norm=cfg.feature_norm, num_mels=cfg.num_mels, window_ms=cfg.window_ms, hop_ms=cfg.hop_ms, **shared)

    @torch.no_grad()
    def features(self, waveform: Tensor, padding_mask: Optional[Tensor] = None) -> Features:
        """What masking acts on. waveform: (B, S) float, padding_mask: (B, S) bool -> Features (B, F, num_mels) float32."""
        return self.normalise(self.log_mel(waveform, padding_mask))

    def normalise(self, features: Features) -> Features:
        """Log-Mel features of whole utterances as `feature_norm` says."""
        if self.feature_norm == "utterance":
            return normalise_utterance(features)
        return normalise_running(features)[0] if self.feature_norm == "running" else features

    def check_streams(self) -> None:
        """Raises UserError where the features of a frame need what comes after it."""
        if self.feature_norm == "utterance":
            raise UserError(
                "`model.frontend.feature_norm: utterance` normalises a frame with the whole utterance, whose end a stream has "
                "not heard: pre-train with `feature_norm: running`"
            )

    def subsample(self, features: Features, clean_rows: int = 0):
        """Features (B, F, D) -> hidden: (B, F // 4, dim) float, padding_mask: (B, F // 4) bool."""
        hidden, padding_mask = self.subsampling(features.x, features.padding_mask)
        return self.dropout(hidden, clean_rows), padding_mask

    def feature_length(self, num_samples):
        """Feature frames of `num_samples` samples, int or tensor."""
        return self.log_mel.feature_length(num_samples)

    def output_length(self, num_samples):
        """Encoder frames of `num_samples` samples, int or tensor."""
        return self.feature_length(num_samples) // self.frames_per_step
