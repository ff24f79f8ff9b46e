"""A weight-normalised convolution that can be copied."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class WeightNormConv1d(nn.Module):
    """A 1-D convolution whose weight is g v / ||v|| (Salimans and Kingma 2016, arXiv 1602.07868), one g per place in the kernel.

    What torch's old `nn.utils.weight_norm(convolution, dim=2)` computes, with its names and order of parameters, so that
    checkpoints and optimizer states made with that load. The old one keeps the product as an attribute, which cannot be copied;
    torch's new one has other names.

    bias: (out,) float; weight_g: (1, 1, kernel) float; weight_v: (out, in // groups, kernel) float
    """

    def __init__(self, weight_g: Tensor, weight_v: Tensor, bias: Tensor, padding: int, groups: int):
        super().__init__()
        self.bias = nn.Parameter(bias.detach().clone())
        self.weight_g = nn.Parameter(weight_g.detach().clone())
        self.weight_v = nn.Parameter(weight_v.detach().clone())
        self.kernel_size, self.padding, self.groups = (weight_v.shape[2],), padding, groups

    @classmethod
    def like(cls, old: nn.Conv1d) -> "WeightNormConv1d":
        """The same convolution as one that `nn.utils.weight_norm(..., dim=2)` was put on."""
        weights = dict(old.named_parameters())
        return cls(weights["weight_g"], weights["weight_v"], weights["bias"], int(old.padding[0]), old.groups)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, in, T) float -> (B, out, T')."""
        weight = torch._weight_norm(self.weight_v, self.weight_g, 2)
        return F.conv1d(x, weight, self.bias, padding=self.padding, groups=self.groups)
