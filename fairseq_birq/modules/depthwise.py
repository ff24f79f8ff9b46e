"""The Conformer's depthwise convolution as an operator of its own, for torch.compile."""

from functools import lru_cache
from typing import Tuple

import torch
from torch import Tensor

from fairseq_birq.modules.cpu import depthwise_convolution


@lru_cache(None)
def register_operator() -> None:
    """`torch.ops.fairseq_birq.depthwise`: `depthwise_convolution`, into which torch.compile does not look.

    torch 2.13 compiles the backward pass of a convolution for one length alone, and anew for the next
    (`_inductor/kernel/conv.py`: a guard on every stride).
    """

    @torch.library.custom_op("fairseq_birq::depthwise_backward", mutates_args=())
    def backward(grad: Tensor, x: Tensor, weight: Tensor, padding: int) -> Tuple[Tensor, Tensor, Tensor]:
        grad, x = (part.transpose(1, 2)[:, :, None] for part in (grad, x))
        for_x, for_weight, for_bias = torch.ops.aten.convolution_backward(
            grad,
            x,
            weight[:, :, None],
            weight.shape[:1],
            [1, 1],
            [0, padding],
            [1, 1],
            False,
            [0, 0],
            weight.shape[0],
            [True] * 3,
        )
        return for_x[:, :, 0].transpose(1, 2).contiguous(), for_weight[:, :, 0].contiguous(), for_bias

    @backward.register_fake
    def _(grad, x, weight, padding):
        return x.new_empty(x.shape), weight.new_empty(weight.shape), weight.new_empty(len(weight))

    @torch.library.custom_op("fairseq_birq::depthwise", mutates_args=())
    def forward(x: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:
        return depthwise_convolution(x, weight, bias, padding).contiguous()

    @forward.register_fake
    def _(x, weight, bias, padding):
        return x.new_empty(x.shape[0], x.shape[1] + 2 * padding - weight.shape[-1] + 1, x.shape[2])

    def keep(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:2])
        ctx.padding = inputs[3]

    def gradient(ctx, grad):
        return (*backward(grad.contiguous(), *ctx.saved_tensors, ctx.padding), None)

    forward.register_autograd(gradient, setup_context=keep)
