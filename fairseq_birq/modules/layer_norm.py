"""Layer normalisation: apex's fused kernel on a GPU where apex is installed, as in fairseq, else torch's."""

import torch
from torch import nn

try:
    from apex.normalization import FusedLayerNorm
except ImportError:
    FusedLayerNorm = None


def LayerNorm(dim: int) -> nn.Module:
    """Over the last dimension; both kinds have the same parameters, so checkpoints fit either."""
    if FusedLayerNorm is not None and torch.cuda.is_available():
        return FusedLayerNorm(dim)
    return nn.LayerNorm(dim)
