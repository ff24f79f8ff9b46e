"""What is there for a CPU's sake: each function gives what a plain line of torch gives, in less time.

Each says what it takes of the plain line's time: process time of one thread, by `python benchmarks/cpu_tricks.py` (an AMD EPYC,
torch 2.13). On other devices each is the plain line.
"""

from typing import Callable, List, Optional

import torch
from torch import Tensor
from torch.nn import functional as F

_BLOCK = 512  # frames whose windows stay in a CPU's cache
_LOG_FLOOR = -60.0  # e^-60 is lost beside 1 in float64 too


def dropout(x: Tensor, p: float) -> Tensor:
    """`F.dropout`, from torch's generator too, with 16 random bits a value: 0.46 of its time.

    torch.compile cannot read them, and makes random numbers of its own.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.dropout(x, p)
    return x * draw_kept(x, p).to(x.dtype).mul_(1.0 / (1.0 - p))


def draw_kept(x: Tensor, p: float) -> Tensor:
    """`torch.empty(x.shape, dtype=torch.bool).bernoulli_(1 - p)`: the values of x that `dropout` keeps."""
    if x.device.type != "cpu":
        return torch.empty(x.shape, dtype=torch.bool, device=x.device).bernoulli_(1.0 - p)
    words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    bits = words.view(torch.int16)[: x.numel()].view(x.shape)
    return bits >= round(p * 2**16) - 2**15


def attend(query: Tensor, key: Tensor, value: Tensor, keep: Optional[Tensor], dropout_p: float = 0.0) -> Tensor:
    """`F.scaled_dot_product_attention`; with dropout it is written out here: 0.73 of its time.

    Args:
        query, key, value: (B, H, T, head_dim) float.
        keep: None, bool (attend where True) or float (added to the scores), broadcast to (B, H, T, T).
        dropout_p: on attention weights.
    """
    if dropout_p == 0 or query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value, attn_mask=keep, dropout_p=dropout_p)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if keep is not None:
        scores = scores.masked_fill(~keep, float("-inf")) if keep.dtype == torch.bool else scores + keep
    return dropout(scores.softmax(-1), dropout_p).to(value.dtype) @ value


def depthwise_convolution(x: Tensor, weight: Tensor, bias: Optional[Tensor], padding: Optional[int] = None) -> Tensor:
    """`F.conv1d` over time, as a 2-D one on channels-last memory without copies: 0.34 of its time.

    Args:
        x: (B, T, d) float.
        weight: (d, 1, kernel) float.
        bias: (d,) float or None.
        padding: frames of zeros at either end; None: kernel // 2, which keeps T with an odd kernel.

    Returns:
        (B, T + 2 * padding - kernel + 1, d).
    """
    weight = weight[:, :, None]
    x = x.transpose(1, 2)[:, :, None]
    padding = weight.shape[-1] // 2 if padding is None else padding
    x = F.conv2d(x, weight, bias, padding=(0, padding), groups=weight.shape[0])
    return x.squeeze(2).transpose(1, 2)  # selecting would be a copy in the backward pass


def grouped_argmax(scores: Tensor) -> Tensor:
    """`scores.argmax(-1)` over long rows in two short steps: 0.3 of its time. scores: (R, V) -> (R,) int64."""
    if scores.device.type != "cpu":
        return scores.argmax(-1)
    group = group_size(scores.shape[1])
    grouped = scores.view(scores.shape[0], -1, group)
    best = grouped.amax(-1).argmax(-1)
    members = grouped[torch.arange(scores.shape[0]), best]
    return best * group + members.argmax(-1)


def group_size(num_codes: int) -> int:
    """The largest divisor of V up to 128."""
    return max(size for size in range(1, min(128, num_codes) + 1) if num_codes % size == 0)


def above_denormals(logits: Tensor, top: Tensor) -> Tensor:
    """Logits in place, none so far below `top`, the greatest of its row, that its softmax is a denormal number.

    The softmax of labels then takes 0.87 of its time with the recipes' `score_scale`. logits: (R, V), top: (R, 1).
    """
    return logits.clamp_(min=top + _LOG_FLOOR)


def by_blocks(function: Callable[[Tensor], Tensor], frames: Tensor, lengths: List[int], out: Tensor) -> Tensor:
    """`function(frames)` of each row's first frames, in blocks that stay in the cache: 0.35 of its time.

    An utterance has the same blocks in every batch, so that it has the same numbers bit for bit.

    frames: (B, F, ...) float, lengths: frames of each row, out: (B, F, D) float, written.
    """
    for row, length in enumerate(lengths):
        for start in range(0, length, _BLOCK):
            block = slice(start, min(start + _BLOCK, length))
            out[row, block] = function(frames[row, block])
    return out
