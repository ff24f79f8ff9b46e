"""Two stride-2 convolutions from feature frames to encoder frames."""

from typing import Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ConvSubsampling(nn.Module):
    """T = F // 4, for the batch and for every utterance; the features are channels.

    Both convolutions have kernel 3 and one frame of padding on the left only: output t sees inputs 2t - 1 to 2t + 1,
    so an output inside the utterance never sees a frame after its end.
    """

    def __init__(self, in_dim: int, dim: int):
        super().__init__()
        self.conv1 = nn.Conv1d(in_dim, dim, 3, stride=2)
        self.conv2 = nn.Conv1d(dim, dim, 3, stride=2)
        self.output = nn.Linear(dim, dim)

    def forward(self, x: Tensor, padding_mask: Tensor):
        """x: (B, F, in_dim) float, padding_mask: (B, F) bool -> (B, F // 4, dim) float, (B, F // 4) bool."""
        steps = x.shape[1] // 4
        lengths = (~padding_mask).sum(1) // 4
        padding_mask = torch.arange(steps, device=x.device) >= lengths[:, None]
        if steps == 0:
            return x.new_zeros(x.shape[0], 0, self.output.out_features), padding_mask
        x = x.to(self.conv1.weight.dtype).transpose(1, 2)  # a quantized `output` has no such weight
        for conv in (self.conv1, self.conv2):
            x = F.gelu(conv(F.pad(x, (1, 0))))
        return self.output(x.transpose(1, 2)) * ~padding_mask[..., None], padding_mask

    def step(self, x: Tensor, pasts: Tuple[Tensor, Tensor]) -> Tuple[Tensor, Tuple[Tensor, Tensor]]:
        """The next F frames of a stream, a multiple of 4.

        Args:
            x: (B, F, in_dim) float.
            pasts: the frame before the input of either convolution, (B, in_dim, 1) and (B, dim, 1); zeros at the beginning.

        Returns:
            (B, F // 4, dim), and the pasts of the frames after them.
        """
        x, last = x.to(self.conv1.weight.dtype).transpose(1, 2), []
        for conv, past in zip((self.conv1, self.conv2), pasts):
            last.append(x[:, :, -1:])
            x = F.gelu(conv(torch.cat([past, x], dim=2)))
        return self.output(x.transpose(1, 2)), (last[0], last[1])
