"""What pre-training minimises: BiRQ's F and G (Jiang et al., arXiv 2509.15430) and their weighted sum.

    G(theta) = mean over masked frames t of  - log p_theta(y(x)_t | x~)_t                           hard codes of the raw input
    F(theta) = mean over masked frames t of  - sum_v y_v^(k)(theta; x)_t log p_theta(v | x~)_t      soft codes of the own layer k
    Eq. 8:  minimise F over the theta with G(theta) - min G <= delta
    Eq. 9:  minimise w1 F + w2 (G - min G), its penalty form

BEST-RQ (arXiv 2202.01855, section 3) is G alone; Latent-RQ and staged relabelling are G with other codes. In place of the
mean over frames there is the sum here: the criterion divides by the masked frames of all processes. Over label columns it is
the mean, as in USM (arXiv 2303.01037, section 3.1).

The logits of all frames, M x V, are never in memory: see `_InBlocks`.
"""

from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Tuple, Union

import torch
from torch import Tensor

from fairseq_birq.objective.diversity_loss import diversity_loss
from fairseq_birq.objective.heads import CodebookHeads
from fairseq_birq.objective.soft_codes import SoftCodes, SoftLabels

Targets = Union[Tensor, SoftCodes]


def G(log_p: Tensor, codes: Tensor) -> Tensor:
    """`sum_t - log p(y_t | x~)_t`: hard codes, which no gradient goes through, of one codebook or of several at once.

    log_p: (R, ..., V) float, codes: (R, ...) int64 -> (...)
    """
    return -log_p.gather(-1, codes[..., None]).squeeze(-1).sum(0)


def F(log_p: Tensor, labels: Tensor) -> Tensor:
    """`sum_t - sum_v y_tv log p(v | x~)_t`: the gradient goes through p and through y. log_p, labels: (R, V) float."""
    return -(labels * log_p).sum()


def penalty_form(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """`w1 F + w2 G`: BiRQ, Eq. 9, with a summand for each source; `min G` is a constant of theta, so it has no gradient."""
    return sum(weights[source] * loss for source, loss in losses.items())  # type: ignore[return-value]  # never without a source


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


def pretraining_loss(
    hidden: Tensor,
    heads: Mapping[str, CodebookHeads],
    head_of: Mapping[str, str],
    targets: Dict[str, Targets],
    weights: Dict[str, float],
    diversity_weights: Dict[str, float],
    block_bytes: int,
) -> Tuple[Tensor, Dict[str, LossTerm]]:
    """All that is minimised: `w1 F + w2 G` of every prediction head, and the reward for varied labels where it is on.

    Args:
        hidden: (M, d) float, the encoder's output at masked frames.
        heads: `CodebookHeads` by name; one that no source uses keeps a gradient, of zero.
        head_of: per source, the name of its head.
        targets: per source (M, N) int64 codes, or `SoftCodes` of M frames.
        weights: per source: w1, w2.
        diversity_weights: per source, the share of the reward beside F; it is not in the paper, which has 0.
        block_bytes: most bytes of float32 logits alive at once.

    Returns:
        (loss, terms): a differentiable scalar (zero where M is 0) and a `LossTerm` per source.
    """
    loss = hidden.new_zeros((), dtype=torch.float32)
    terms: Dict[str, LossTerm] = {}
    for name, head in heads.items():
        mine = {source: target for source, target in targets.items() if head_of[source] == name}
        if mine:
            total, part = masked_code_loss(hidden, head.weight, head.bias, mine, weights, block_bytes)
            loss, terms = loss + total, {**terms, **part}
        else:
            loss = loss + 0.0 * (head.weight.sum() + head.bias.sum())
    rewarded = {source: target for source, target in targets.items() if diversity_weights.get(source)}
    rewards = {source: diversity_loss(soft, block_bytes) for source, soft in rewarded.items() if isinstance(soft, SoftCodes)}
    for source, reward in rewards.items():
        terms[source].diversity_loss = reward.detach()
    if rewards:
        loss = loss + penalty_form(rewards, {source: weights[source] * diversity_weights[source] for source in rewards}).to(loss)
    return loss, terms


def masked_code_loss(
    hidden: Tensor, weight: Tensor, bias: Tensor, targets: Dict[str, Targets], weights: Dict[str, float], block_bytes: int
) -> Tuple[Tensor, Dict[str, LossTerm]]:
    """`w1 F + w2 G` of the sources that share a prediction head: sums over frames, means over label columns.

    Args:
        hidden: (M, d) float, the encoder's output at masked frames.
        weight: (N, V, d) float.
        bias: (N, V) float.
        targets: per source (M, N) int64 codes, or `SoftCodes` of M frames.
        weights: per source, 1 where it is not named.
        block_bytes: most bytes of float32 logits alive at once.

    Returns:
        (total, terms): a differentiable scalar (zero where M is 0) and a `LossTerm` per source.
    """
    terms = {name: _new_term(source, hidden) for name, source in targets.items()}
    work = _Work(targets, {name: weights.get(name, 1.0) for name in targets}, terms, block_bytes)
    units = [unit for source in targets.values() if isinstance(source, SoftCodes) for unit in source.units]
    needed = [torch.is_grad_enabled() and tensor.requires_grad for tensor in (hidden, weight, bias, *units)]
    total = _InBlocks.apply(work, needed, hidden, weight, bias, *units)
    for term in terms.values():
        offsets = torch.arange(term.codes.shape[1], device=hidden.device) * weight.shape[1]
        counts = torch.zeros(term.codes.shape[1] * weight.shape[1], dtype=torch.int64, device=hidden.device)
        places = (term.codes + offsets).flatten()
        term.histogram = counts.scatter_add_(0, places, torch.ones_like(places)).view(-1, weight.shape[1])
    return total, terms


@dataclass
class _Work:
    """The inputs of the loss that are no tensors with gradients, and where its numbers for the log go."""

    targets: Dict[str, Targets]
    weights: Dict[str, float]
    terms: Dict[str, LossTerm]
    block_bytes: int

    @property
    def has_soft_labels(self) -> bool:
        return any(isinstance(source, SoftCodes) for source in self.targets.values())

    def heads(self, num_frames: int, num_heads: int, num_codes: int) -> List[slice]:
        """Heads that are computed at once, as logits of one product: on an accelerator as many as the budget has room for."""
        on_cpu = all(term.loss_sum.device.type == "cpu" for term in self.terms.values())
        room = self.block_bytes // (4 * max(1, num_frames) * num_codes)
        size = 1 if on_cpu or self.has_soft_labels else min(max(1, room), num_heads)
        return [slice(start, min(start + size, num_heads)) for start in range(0, num_heads, size)]

    def blocks(self, num_frames: int, num_codes: int) -> List[slice]:
        """Rows whose logits fit into the budget, a quarter as many with soft labels: 5 such arrays are alive then, else 3."""
        size = max(1, self.block_bytes // (4 * (4 if self.has_soft_labels else 1) * num_codes))
        return [slice(start, start + size) for start in range(0, num_frames, size)]

    def loss(self, log_p: Tensor, heads: slice, num_heads: int, rows: slice, units: List[Tensor]) -> Tensor:
        """`w1 F + w2 G` of some frames and heads. log_p: (R, heads, V); units: unit vectors of these frames, all sources."""
        losses, left = {}, iter(units)
        for name, source in self.targets.items():
            block = source.of_frames(rows, left) if isinstance(source, SoftCodes) else source[rows]
            starts = range(0, _columns(source), num_heads)  # of label columns that belong to the same heads
            parts = [self._columns_loss(name, log_p, block, slice(heads.start + i, heads.stop + i), rows) for i in starts]
            losses[name] = sum(parts[1:], parts[0]) / _columns(source)
        return penalty_form(losses, self.weights)

    def _columns_loss(self, name, log_p, block, columns: slice, rows) -> Tensor:
        term = self.terms[name]
        if isinstance(block, SoftCodes):  # one head only
            labels = block.labels(columns.start, log_p.dtype)
            loss, codes = F(log_p.flatten(0, 1), labels.y), labels.nearest[:, None]
            _note_labels(term, columns.start, labels)
            term.loss_sum[columns].add_(loss.detach())
        else:
            codes = block[:, columns]
            of_columns = G(log_p, codes)
            term.loss_sum[columns].add_(of_columns.detach())
            loss = of_columns.sum()
        with torch.no_grad():
            term.correct[columns].add_((log_p.gather(-1, codes[..., None]) >= log_p.amax(-1, keepdim=True)).squeeze(-1).sum(0))
        term.codes[rows, columns] = codes
        return loss


class _InBlocks(torch.autograd.Function):
    """The loss and its gradient, block by block, both in forward; backward only scales. Nothing is computed twice.

    The loss is a sum over frames, so each block's gradient is complete as soon as its logits are there. Autograd makes it
    inside of forward, as in Liger-Kernel's chunked losses, and the block is dropped. What comes out in the end is
    `w1 grad F + w2 grad G`, the first-order step of BiRQ's Algorithm 1; the optimizer scales it by eta.
    """

    @staticmethod
    def forward(ctx, work, needed, hidden, weight, bias, *units):
        wide = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        narrow, tensors = _compute_dtype(hidden), (hidden, weight, bias, *units)
        heads = work.heads(hidden.shape[0], weight.shape[0], weight.shape[1])
        grads = _Gradients(tensors, needed, wide, hidden.shape[0], weight.shape[0])
        total = hidden.new_zeros((), dtype=torch.float64)
        for group in heads:
            matrix, offset = weight[group].flatten(0, 1).to(narrow), bias[group].flatten(0, 1).to(wide)
            for rows in work.blocks(hidden.shape[0], matrix.shape[0]):
                frames = [hidden[rows].to(narrow), matrix, offset, *(unit[rows].to(wide) for unit in units)]
                leaves = [tensor.detach().requires_grad_(need) for tensor, need in zip(frames, needed)]
                with torch.set_grad_enabled(any(needed)), torch.autocast(hidden.device.type, enabled=False):
                    x, leaf_matrix, leaf_offset, *unit_rows = leaves
                    logits = (x @ leaf_matrix.t()).to(wide).add_(leaf_offset)
                    log_p = logits.view(len(x), -1, weight.shape[1]).log_softmax(-1)
                    del logits
                    loss = work.loss(log_p, group, weight.shape[0], rows, unit_rows)
                    del log_p
                    total += loss.detach()
                    grads.add(loss, leaves, group, rows)
        ctx.save_for_backward(*grads.all())
        ctx.dtypes = [tensor.dtype if need else None for tensor, need in zip(tensors, needed)]
        return total.to(wide)

    @staticmethod
    def backward(ctx, grad_total):
        saved = iter(ctx.saved_tensors)
        return (None, None, *[None if dtype is None else (grad_total * next(saved)).to(dtype) for dtype in ctx.dtypes])


class _Gradients:
    """Sums of the gradients of blocks. What one block has whole, as on an accelerator, is taken over as it is."""

    def __init__(self, tensors, needed, dtype, num_frames, num_heads):
        self.parts: List[Optional[Tensor]] = [None] * len(tensors)
        self.tensors, self.needed, self.dtype = tensors, needed, dtype
        self.num_frames, self.num_heads = num_frames, num_heads

    def add(self, loss: Tensor, leaves: List[Tensor], heads: slice, rows: slice) -> None:
        """Of a block's loss. leaves: what it was computed of; weight and bias belong to heads, all else to frames."""
        if not loss.requires_grad:
            return
        wanted = [index for index, need in enumerate(self.needed) if need]
        gradients = torch.autograd.grad(loss, [leaves[index] for index in wanted], allow_unused=True)
        is_whole = heads.stop - heads.start == self.num_heads and rows.stop - rows.start >= self.num_frames
        for index, gradient in zip(wanted, gradients):
            if gradient is None:
                continue
            if is_whole:
                self.parts[index] = gradient.view_as(self.tensors[index])
                continue
            part = self.part(index)[heads if index in (1, 2) else rows]
            part += gradient.view_as(part)

    def part(self, index: int) -> Tensor:
        found = self.parts[index]
        if found is None:
            found = self.parts[index] = torch.zeros_like(self.tensors[index], dtype=self.dtype)
        return found

    def all(self) -> List[Tensor]:
        return [self.part(index) for index, need in enumerate(self.needed) if need]


def _note_labels(term: LossTerm, column: int, labels: SoftLabels) -> None:
    assert term.sampled_nearest is not None and term.entropy_sum is not None
    term.sampled_nearest[column].add_((labels.nearest == labels.sampled).sum())
    term.entropy_sum[column].add_(labels.entropy.sum())


def _new_term(source: Targets, hidden: Tensor) -> LossTerm:
    sums = [hidden.new_zeros(_columns(source), dtype=torch.float64) for _ in range(4)]
    codes = torch.empty(hidden.shape[0], _columns(source), dtype=torch.int64, device=hidden.device)
    soft_only = sums[2:] if isinstance(source, SoftCodes) else (None, None)
    not_counted = codes.new_zeros(_columns(source), 0)  # until all codes are known
    return LossTerm(sums[0], sums[1], not_counted, codes, *soft_only)


def _columns(source: Targets) -> int:
    return source.num_columns if isinstance(source, SoftCodes) else source.shape[1]


def _compute_dtype(hidden: Tensor) -> torch.dtype:
    device = hidden.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
