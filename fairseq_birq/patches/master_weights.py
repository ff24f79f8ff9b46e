"""The float32 copies of parameters that fairseq's fp16 and bf16 optimizers train."""

from typing import Iterator, Tuple

import torch
from torch import Tensor


@torch.no_grad()
def renew_float32_copies(optimizer) -> None:
    """Parameters that were set from outside go into the float32 copies, which fp16 and bf16 training steps.

    A copy stays where it still rounds to its parameter, so that nothing of its precision is lost.
    """
    for parameter, copy in float32_pairs(optimizer):
        copy = copy.data.view_as(parameter)
        changed = copy.to(parameter.dtype) != parameter
        copy.copy_(torch.where(changed, parameter.float(), copy))


def float32_pairs(optimizer) -> Iterator[Tuple[Tensor, Tensor]]:
    """(parameter, its copy) each, the copy flat where fairseq keeps all of them in one tensor; nothing in float32 runs."""
    copies = getattr(optimizer, "fp32_params", None) or ()
    if not isinstance(copies, dict):
        yield from zip(getattr(optimizer, "fp16_params", ()), copies)
        return
    for device, flat in copies.items():
        parameters = [p for p in optimizer.fp16_params if p.device.index == device]
        yield from zip(parameters, flat.data.split([p.numel() for p in parameters]))
