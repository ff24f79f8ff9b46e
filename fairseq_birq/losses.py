"""Cross-entropy of masked frames against codes, in blocks whose logits are never whole in memory.

The loss is a plain sum, so its gradient with respect to each block of logits is known as soon as the block is: it is
multiplied into the gradients of hidden states and head at once, and the block is dropped. Nothing is computed twice
and no `[M, N, V]` ever lives.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class LossTerm:
    """What one target source contributes, summed over frames, without gradient except through the total."""

    loss_sum: Tensor  # (N,) nats
    correct: Tensor  # (N,) frames in which the most probable code is the target
    histogram: Tensor  # (N, V) how often each code was the target


def masked_code_loss(hidden: Tensor, weight: Tensor, bias: Tensor, codes: Tensor, block_bytes: int):
    """Sum over frames of the mean over codebooks of `-log p(code | hidden)`, in nats.

    BEST-RQ (arXiv 2202.01855), section 3; several codebooks as in USM (arXiv 2303.01037), section 3.1.

    Args:
        hidden: (M, d) float, the encoder's output at masked frames.
        weight: (N, V, d) float.
        bias: (N, V) float.
        codes: (M, N) int64, values in [0, V).
        block_bytes: most bytes of float32 logits alive at once.

    Returns:
        (total, term): a differentiable scalar (zero where M is 0) and the `LossTerm`.
    """
    total, loss_sum, correct = _BlockedCrossEntropy.apply(hidden, weight, bias, codes, block_bytes)
    size = weight.shape[1]
    offsets = torch.arange(codes.shape[1], device=codes.device) * size
    histogram = torch.bincount((codes + offsets).flatten(), minlength=codes.shape[1] * size).view(-1, size)
    return total, LossTerm(loss_sum, correct, histogram)


class _BlockedCrossEntropy(torch.autograd.Function):
    """Computes the gradients in forward; backward only scales them."""

    @staticmethod
    def forward(ctx, hidden, weight, bias, codes, block_bytes):
        num_codebooks, size, _ = weight.shape
        wide = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        compute = torch.get_autocast_dtype(hidden.device.type) if torch.is_autocast_enabled(hidden.device.type) else None
        needs_grad = any(ctx.needs_input_grad)
        inputs = hidden.to(compute) if compute else hidden
        loss_sum, correct = hidden.new_zeros(num_codebooks, dtype=wide), hidden.new_zeros(num_codebooks, dtype=wide)
        grad_hidden = torch.zeros_like(hidden, dtype=wide) if needs_grad else None
        grad_weight = torch.zeros_like(weight, dtype=wide) if needs_grad else None
        grad_bias = torch.zeros_like(bias, dtype=wide) if needs_grad else None
        block_rows = max(1, block_bytes // (4 * size))
        for n in range(num_codebooks):
            matrix = weight[n].to(inputs.dtype)
            for start in range(0, hidden.shape[0], block_rows):
                rows = slice(start, start + block_rows)
                block, target = inputs[rows], codes[rows, n, None]
                logits = (block @ matrix.t()).to(wide) + bias[n]
                top = logits.amax(-1, keepdim=True)
                aimed = logits.gather(1, target)
                correct[n] += (aimed == top).sum()
                probabilities = logits.sub_(top).exp_()
                mass = probabilities.sum(-1, keepdim=True)
                loss_sum[n] += (mass.log() + top - aimed).sum()
                if needs_grad:
                    gradient = probabilities.div_(mass)
                    gradient.scatter_add_(1, target, gradient.new_full((), -1.0).expand(target.shape))
                    narrow = gradient.to(inputs.dtype)
                    grad_hidden[rows] += (narrow @ matrix).to(wide)
                    grad_weight[n] += (narrow.t() @ block).to(wide)
                    grad_bias[n] += gradient.sum(0)
        if needs_grad:
            ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
            ctx.dtypes = hidden.dtype, weight.dtype, bias.dtype
        ctx.num_codebooks = num_codebooks
        ctx.mark_non_differentiable(loss_sum, correct)
        return loss_sum.mean(), loss_sum, correct

    @staticmethod
    def backward(ctx, grad_total, *_):
        scale = grad_total / ctx.num_codebooks
        grads = [(scale * grad).to(dtype) for grad, dtype in zip(ctx.saved_tensors, ctx.dtypes)]
        return (*grads, None, None)
