"""Cross-entropy of masked frames against codes, in blocks whose logits are never whole in memory.

The loss is a plain sum, so its gradient with respect to each block of logits is known as soon as the block is: it is
multiplied into the gradients of hidden states and head at once, and the block is dropped. Nothing is computed twice
and no `[M, N, V]` ever lives. Sources that share a head share the logits too.
"""

from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple, Union

import torch
from torch import Tensor

from fairseq_birq.objective.soft_codes import SoftCodes, grouped_argmax

Targets = Union[Tensor, SoftCodes]


@dataclass
class LossTerm:
    """What one target source contributes, summed over frames, without gradient; one row per label column."""

    loss_sum: Tensor  # (N,) nats
    correct: Tensor  # (N,) frames in which the most probable code is the (noise-free) target
    histogram: Tensor  # (N, V) how often each code was the (noise-free) target
    codes: Tensor  # (M, N) int64: the (noise-free) targets
    sampled_nearest: Optional[Tensor] = None  # (N,) frames whose sampled code is the noise-free one; soft labels only
    entropy_sum: Optional[Tensor] = None  # (N,) entropy of the label distributions, nats; soft labels only
    diversity_loss: Optional[Tensor] = None  # () nats; soft labels that are rewarded for variety


def masked_code_loss(
    hidden: Tensor, weight: Tensor, bias: Tensor, targets: Dict[str, Targets], weights: Dict[str, float], block_bytes: int
) -> Tuple[Tensor, Dict[str, LossTerm]]:
    """Weighted sum over sources of the sum over frames of the mean over label columns of `-sum_v y_v log p(v | hidden)`.

    Hard codes: BEST-RQ (arXiv 2202.01855), section 3, and G of BiRQ (arXiv 2509.15430). Soft codes: F of BiRQ; its
    gradient goes through p and through y. Several codebooks as in USM (arXiv 2303.01037), section 3.1.

    Args:
        hidden: (M, d) float, the encoder's output at masked frames.
        weight: (N, V, d) float.
        bias: (N, V) float.
        targets: per source (M, N) int64 codes, or `SoftCodes` of M frames.
        weights: per source.
        block_bytes: most bytes of float32 logits alive at once.

    Returns:
        (total, terms): a differentiable scalar (zero where M is 0) and a `LossTerm` per source.
    """
    names = list(targets)
    plan = _Plan(targets, weights, block_bytes, {name: _new_term(targets[name], hidden) for name in names})
    units = [unit for name in names if isinstance(targets[name], SoftCodes) for unit in targets[name].units]
    total = _BlockedCrossEntropy.apply(plan, hidden, weight, bias, *units)
    for term in plan.terms.values():
        offsets = torch.arange(term.codes.shape[1], device=hidden.device) * weight.shape[1]
        counts = torch.bincount((term.codes + offsets).flatten(), minlength=term.codes.shape[1] * weight.shape[1])
        term.histogram = counts.view(-1, weight.shape[1])
    return total, plan.terms


@dataclass
class _Plan:
    """The inputs of the loss that are no tensors with gradients, and its results."""

    targets: Dict[str, Targets]
    weights: Dict[str, float]
    block_bytes: int
    terms: Dict[str, LossTerm]

    def block_rows(self, num_codes: int) -> int:
        """Rows whose logits fit into the budget; soft labels hold three more arrays of that size."""
        arrays = 4 if any(isinstance(source, SoftCodes) for source in self.targets.values()) else 1
        return max(1, self.block_bytes // (4 * arrays * num_codes))

    def blocks(self, n: int, num_heads: int, rows: slice) -> List["_Block"]:
        """The label columns of all sources that head n predicts."""
        return [
            _Block(rows, column, self.weights.get(name, 1.0) / _columns(source), name, source, self.terms[name])
            for name, source in self.targets.items()
            for column in range(n, _columns(source), num_heads)
        ]


def _columns(source: Targets) -> int:
    return source.num_columns if isinstance(source, SoftCodes) else source.shape[1]


def _new_term(source: Targets, hidden: Tensor) -> LossTerm:
    sums = [hidden.new_zeros(_columns(source), dtype=torch.float64) for _ in range(4)]
    codes = torch.empty(hidden.shape[0], _columns(source), dtype=torch.int64, device=hidden.device)
    soft_only = sums[2:] if isinstance(source, SoftCodes) else (None, None)
    return LossTerm(sums[0], sums[1], None, codes, *soft_only)


class _BlockedCrossEntropy(torch.autograd.Function):
    """Computes the gradients in forward; backward only scales them."""

    @staticmethod
    def forward(ctx, plan, hidden, weight, bias, *units):
        wide = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        inputs = hidden.to(_compute_dtype(hidden))
        tensors = (hidden, weight, bias, *units)
        grads = [torch.zeros_like(t, dtype=wide) if need else None for t, need in zip(tensors, ctx.needs_input_grad[1:])]
        unit_grads = _grads_by_source(plan.targets, grads[3:])
        total = hidden.new_zeros((), dtype=torch.float64)
        block_rows = plan.block_rows(weight.shape[1])
        for n in range(weight.shape[0]):
            matrix = weight[n].to(inputs.dtype)
            for start in range(0, hidden.shape[0], block_rows):
                rows = slice(start, start + block_rows)
                log_probs = (inputs[rows] @ matrix.t()).to(wide).add_(bias[n]).log_softmax(-1)
                blocks = plan.blocks(n, weight.shape[0], rows)
                gradient = None
                if grads[0] is not None or grads[1] is not None:
                    gradient = log_probs.exp().mul_(sum(block.scale for block in blocks))
                for block in blocks:
                    if isinstance(block.source, SoftCodes):
                        total += _soft_block(block, log_probs, gradient, unit_grads[block.name])
                    else:
                        total += _hard_block(block, log_probs, gradient)
                if gradient is not None:
                    narrow = gradient.to(inputs.dtype)
                    if grads[0] is not None:
                        grads[0][rows] += (narrow @ matrix).to(wide)
                    if grads[1] is not None:
                        grads[1][n] += (narrow.t() @ inputs[rows]).to(wide)
                        grads[2][n] += gradient.sum(0)
        ctx.save_for_backward(*[grad for grad in grads if grad is not None])
        ctx.dtypes = [t.dtype if grad is not None else None for t, grad in zip(tensors, grads)]
        return total.to(wide)

    @staticmethod
    def backward(ctx, grad_total):
        saved = iter(ctx.saved_tensors)
        return (None, *[None if dtype is None else (grad_total * next(saved)).to(dtype) for dtype in ctx.dtypes])


@dataclass
class _Block:
    """Some rows of one label column of one source."""

    rows: slice
    column: int
    scale: float  # of its loss in the total
    name: str
    source: Targets
    term: LossTerm

    def add(self, key: str, value: Tensor):
        getattr(self.term, key)[self.column] += value


def _compute_dtype(hidden):
    device = hidden.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype


def _grads_by_source(targets, grads):
    grads = iter(grads)
    return {name: [next(grads) for _ in s.units] for name, s in targets.items() if isinstance(s, SoftCodes)}


def _hard_block(block: _Block, log_probs, gradient) -> Tensor:
    """Takes `scale * onehot` from the gradient of the logits; returns the scaled loss."""
    codes = block.source[block.rows, block.column]
    aimed = log_probs.gather(1, codes[:, None])
    block.add("correct", (aimed >= log_probs.amax(-1, keepdim=True)).sum())
    block.term.codes[block.rows, block.column] = codes
    _take_codes(gradient, codes, block.scale)
    return _add_loss(block, -aimed)


def _take_codes(gradient, codes, scale):
    if gradient is not None:
        gradient.scatter_add_(1, codes[:, None], gradient.new_full((1, 1), -scale).expand(codes.shape[0], 1))


def _add_loss(block: _Block, losses) -> Tensor:
    loss = losses.sum().double()
    block.add("loss_sum", loss)
    return block.scale * loss


def _soft_block(block: _Block, log_probs, gradient, unit_grads) -> Tensor:
    """Takes `scale * y` from the gradient of the logits, adds that through y to the unit vectors'; returns the loss."""
    source = block.source
    soft, entropy, nearest, sampled = source.block(block.rows, block.column, log_probs.dtype)
    block.add("correct", (grouped_argmax(log_probs) == nearest).sum())
    block.add("sampled_nearest", (nearest == sampled).sum())
    block.add("entropy_sum", entropy.sum().double())
    block.term.codes[block.rows, block.column] = nearest
    products = soft * log_probs
    expected = products.sum(-1, keepdim=True)
    if source.straight_through:
        _take_codes(gradient, sampled, block.scale)
        loss = _add_loss(block, -log_probs.gather(1, sampled[:, None]))
    else:
        if gradient is not None:
            gradient.add_(soft, alpha=-block.scale)
        loss = _add_loss(block, -expected)
    layer, n = divmod(block.column, source.codebooks[0].shape[0])
    if unit_grads[layer] is not None:
        slopes = products.addcmul_(soft, expected, value=-1.0)  # of -loss in the logits of y
        _, codebook = source.column(block.column)
        unit_grads[layer][block.rows, n] -= block.scale * source.sharpness * (slopes @ codebook.to(slopes.dtype))
    return loss
