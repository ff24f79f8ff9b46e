"""Dropout for batches of which some rows are computed as in eval mode."""

import functools

import torch
from torch import Tensor, nn

from fairseq_birq.devices import is_compiling
from fairseq_birq.modules.cpu import draw_kept, dropout


class RowDropout(nn.Module):
    """Dropout that leaves the last `clean_rows` rows of the batch as they are."""

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor, clean_rows: int = 0) -> Tensor:
        """x: (B, ...) float -> the same shape."""
        if not self._drops(x, clean_rows):
            return x
        if clean_rows == 0:
            return dropout(x, self.p)
        noisy, clean = x.split([x.shape[0] - clean_rows, clean_rows])  # slices would have a slower backward pass
        return torch.cat([dropout(noisy, self.p), clean])

    def added(self, x: Tensor, change: Tensor, clean_rows: int = 0, scale: float = 1.0) -> Tensor:
        """`x + scale * self(change, clean_rows)`, which reads and writes less. x, change: (B, ...) float of one shape."""
        if not self._drops(change, clean_rows):
            return torch.add(x, change, alpha=scale)
        if x.dtype != change.dtype or is_compiling():
            return torch.add(x, self(change, clean_rows), alpha=scale)
        return _AddDropped.apply(x, change, draw_kept(change[: len(change) - clean_rows], self.p), scale, self.p)

    def _drops(self, x: Tensor, clean_rows: int) -> bool:
        return self.training and self.p > 0 and clean_rows < x.shape[0]


class _AddDropped(torch.autograd.Function):
    """One pass over noisy rows and one over clean ones, each way, with a byte per value kept for the gradient."""

    @staticmethod
    def forward(ctx, x, change, kept, scale, p):
        ctx.save_for_backward(kept)
        ctx.scales = scale, scale / (1.0 - p)
        num_noisy, total = len(kept), torch.empty_like(x)
        torch.addcmul(x[:num_noisy], change[:num_noisy], kept, value=ctx.scales[1], out=total[:num_noisy])
        if num_noisy < len(x):
            torch.add(x[num_noisy:], change[num_noisy:], alpha=scale, out=total[num_noisy:])
        return total

    @staticmethod
    def backward(ctx, grad):
        (kept,) = ctx.saved_tensors
        num_noisy, part = len(kept), torch.empty_like(grad)
        zero = _zero(grad.dtype, grad.device)
        torch.addcmul(zero, grad[:num_noisy], kept, value=ctx.scales[1], out=part[:num_noisy])
        if num_noisy < len(grad):
            torch.mul(grad[num_noisy:], ctx.scales[0], out=part[num_noisy:])
        return grad, part, None, None, None


@functools.lru_cache(maxsize=None)
def _zero(dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.zeros((), dtype=dtype, device=device)
