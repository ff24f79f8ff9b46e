"""One representation out of all layers: SUPERB's learnable weighted sum (Yang et al. 2021, arXiv 2105.01051, section 3.1)."""

import torch
from torch import Tensor, nn


class LayerSum(nn.Module):
    """`sum_k softmax(w)_k h_k`, with equal weights in the beginning.

    Args:
        num_states: K + 1: what enters the first layer, and every layer's output.
    """

    def __init__(self, num_states: int):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(num_states))

    @property
    def weights(self) -> Tensor:
        """(K + 1,) float, positive, of sum 1; entry k is layer k, 0 what enters the first layer."""
        return self.logits.softmax(0)

    def forward(self, states: Tensor) -> Tensor:
        """states: (..., K + 1, d) -> (..., d)."""
        return self.weights.to(states.dtype) @ states
