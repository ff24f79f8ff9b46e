"""Two stride-2 convolutions from feature frames to encoder frames."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class _Subsampling(nn.Module):
    """T = F // 4, for the batch and for every utterance.

    Both convolutions have kernel 3 and one frame of padding on the left only: output t sees inputs 2t - 1 to 2t + 1,
    so an output inside the utterance never sees a frame after its end.
    """

    def forward(self, x: Tensor, padding_mask: Tensor):
        """x: (B, F, in_dim) float, padding_mask: (B, F) bool -> (B, F // 4, dim) float, (B, F // 4) bool."""
        steps = x.shape[1] // 4
        lengths = (~padding_mask).sum(1) // 4
        padding_mask = torch.arange(steps, device=x.device) >= lengths[:, None]
        if steps == 0:
            return x.new_zeros(x.shape[0], 0, self.output.out_features), padding_mask
        x = x.to(self.output.weight.dtype)
        hidden = self.output(self.convolve(x)) * ~padding_mask[..., None]
        return hidden, padding_mask


class Conv1dSubsampling(_Subsampling):
    """Convolutions over time, with the features as channels."""

    def __init__(self, in_dim: int, dim: int):
        super().__init__()
        self.conv1 = nn.Conv1d(in_dim, dim, 3, stride=2)
        self.conv2 = nn.Conv1d(dim, dim, 3, stride=2)
        self.output = nn.Linear(dim, dim)

    def convolve(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        for conv in (self.conv1, self.conv2):
            x = F.gelu(conv(F.pad(x, (1, 0))))
        return x.transpose(1, 2)


class Conv2dSubsampling(_Subsampling):
    """Convolutions over time and Mel bins; the channels are those of SpeechBrain's BEST-RQ recipe."""

    def __init__(self, in_dim: int, dim: int, channels=(128, 32)):
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels[0], 3, stride=2)
        self.conv2 = nn.Conv2d(channels[0], channels[1], 3, stride=2)
        self.output = nn.Linear(channels[1] * ((in_dim + 3) // 4), dim)

    def convolve(self, x: Tensor) -> Tensor:
        x = x[:, None]
        for conv in (self.conv1, self.conv2):
            x = F.gelu(conv(F.pad(x, (1, 1, 1, 0))))
        return x.transpose(1, 2).flatten(2)


SUBSAMPLINGS = {"conv1d": Conv1dSubsampling, "conv2d": Conv2dSubsampling}
