"""Prediction heads: one linear layer per codebook on the encoder's output."""

import torch
from torch import nn


class CodebookHeads(nn.Module):
    """N softmax heads over V codes each. The loss applies them block by block, so there is no forward here.

    Args:
        dim: d, the encoder's width.
        codebook_size: V.
        num_codebooks: N.
    """

    def __init__(self, dim: int, codebook_size: int, num_codebooks: int = 1):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_codebooks, codebook_size, dim))  # (N, V, d)
        self.bias = nn.Parameter(torch.empty(num_codebooks, codebook_size))  # (N, V)
        self.reset_parameters()

    def reset_parameters(self):
        """Small weights, so that the loss begins at ln V."""
        nn.init.normal_(self.weight, std=0.02)
        nn.init.zeros_(self.bias)

    @torch.no_grad()
    def redraw(self, seed: int, stage: int):
        """New weights that depend on (seed, stage) alone: the same in all processes and after a resume."""
        generator = torch.Generator().manual_seed(seed * 1000003 + stage)
        self.weight.copy_(0.02 * torch.randn(self.weight.shape, generator=generator))
        self.bias.zero_()
