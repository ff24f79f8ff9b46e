"""Dropout for batches of which some rows are computed as in eval mode."""

import torch
from torch import Tensor, nn

from fairseq_birq.modules.cpu import dropout


class RowDropout(nn.Module):
    """Dropout that leaves the last `clean_rows` rows of the batch as they are."""

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor, clean_rows: int = 0) -> Tensor:
        """x: (B, ...) float -> the same shape."""
        if not self.training or self.p == 0 or clean_rows == x.shape[0]:
            return x
        if clean_rows == 0:
            return dropout(x, self.p)
        noisy, clean = x.split([x.shape[0] - clean_rows, clean_rows])  # slices would have a slower backward pass
        return torch.cat([dropout(noisy, self.p), clean])
