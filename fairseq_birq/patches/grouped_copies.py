"""The float32 copies of fp16 and bf16 training, written in one operation instead of one a parameter.

fairseq's `FP16Optimizer` copies every gradient to its float32 twin, every stepped weight back, and clears every gradient: three
launches a parameter and update. The numbers here are the same to the bit.
"""

from typing import List, Tuple

import torch
from fairseq.optim import FP16Optimizer
from torch import Tensor


def group_copies(optimizer) -> None:
    """Let fairseq's `optimizer` copy in groups, if it is one with float32 copies."""
    if type(optimizer) is FP16Optimizer:
        optimizer.__class__ = GroupedFP16Optimizer


class GroupedFP16Optimizer(FP16Optimizer):
    """fairseq's, with lists of tensors in the place of loops over them."""

    def _sync_fp16_grads_to_fp32(self):
        if not self._needs_sync:
            return
        pairs = [(p.grad, copy.grad) for p, copy in self._grouped_pairs()]
        _copy([copy for grad, copy in pairs if grad is not None], [grad for grad, _ in pairs if grad is not None])
        absent = [copy for grad, copy in pairs if grad is None]
        if absent:
            torch._foreach_zero_(absent)
        self._needs_sync = False

    def _sync_fp32_params_to_fp16(self):
        pairs = self._grouped_pairs()
        _copy([p.data for p, _ in pairs], [copy.data for _, copy in pairs])

    def zero_grad(self):
        """The float32 gradients are overwritten with the next use, with zeros where none was made; no launch before."""
        for parameter in self.fp16_params:
            parameter.grad = None
        self._needs_sync = True
        self._multiply_factor = 1.0 if self.scaler is None else 1.0 / float(self.scaler.loss_scale)

    def _grouped_pairs(self) -> List[Tuple[Tensor, "_Copy"]]:
        """Each parameter with the float32 copy of its weight and gradient, which may be a part of one flat tensor."""
        if self.has_flat_params:
            return [pair for device, flat in self.fp32_params.items() for pair in self._parts(device, flat)]
        pairs = [(p, copy) for p, copy in zip(self.fp16_params, self.fp32_params) if p.requires_grad]
        for _, copy in pairs:
            copy.grad = torch.zeros_like(copy) if copy.grad is None else copy.grad
        return [(p, _Copy(copy.data, copy.grad.data)) for p, copy in pairs]

    def _parts(self, device, flat):
        parameters = [p for p in self.fp16_params if p.device.index == device]
        sizes = [p.numel() for p in parameters]
        parts = zip(parameters, flat.data.split(sizes), flat.grad.data.split(sizes))
        return [(p, _Copy(data.view_as(p), grad.view_as(p))) for p, data, grad in parts]


class _Copy:
    def __init__(self, data: Tensor, grad: Tensor):
        self.data, self.grad = data, grad


@torch.no_grad()
def _copy(targets: List[Tensor], sources: List[Tensor]) -> None:
    if targets:
        torch._foreach_copy_(targets, sources)


# fairseq names the optimizer of a checkpoint by its class, and refuses to go on with that of a different name.
GroupedFP16Optimizer.__name__ = FP16Optimizer.__name__
