"""Door: optimizer `birq_adamw`: fairseq's `adam` with the same numbers, in a few launches instead of ten a parameter.

Keys, state and weight decay are those of `adam` (Loshchilov and Hutter, arXiv 1711.05101: decoupled, AdamW), so a run that
began with one goes on with the other. torch's fused kernels do the step, on CUDA and on the CPU; nothing needs apex, whose
checkpoints are understood.
"""

from typing import List

import torch
from fairseq.optim import register_optimizer
from fairseq.optim.adam import Adam, FairseqAdam, FairseqAdamConfig
from torch import Tensor

from fairseq_birq.errors import UserError
from fairseq_birq.training.adamw import GroupedAdamW

_HALF = (torch.float16, torch.bfloat16)


@register_optimizer("birq_adamw", dataclass=FairseqAdamConfig)
class BirqAdamW(FairseqAdam):
    """fairseq's `adam` in few launches, `adam_betas`, `adam_eps` and `weight_decay` being its keys.

    Where fairseq steps half-precision weights (`memory_efficient_fp16`, `memory_efficient_bf16`), it is fairseq's Adam.

    Raises:
        UserError: `fp16_adam_stats`, which only apex knows.
    """

    def __init__(self, cfg: FairseqAdamConfig, params):
        super(FairseqAdam, self).__init__(cfg)
        if cfg.fp16_adam_stats:
            raise UserError("`optimizer.fp16_adam_stats` needs `optimizer._name: adam` and apex; birq_adamw's are float32")
        params = list(params)
        is_half = any(parameter.dtype in _HALF for parameter in _flat(params))
        self._optimizer = (Adam if is_half else GroupedAdamW)(params, **self.optimizer_config)

    @property
    def _gradients(self) -> List[Tensor]:
        return [parameter.grad.detach() for parameter in self.params if parameter.grad is not None]

    @torch.no_grad()
    def multiply_grads(self, c):
        grads = self._gradients
        if grads:
            torch._foreach_mul_(grads, c.to(grads[0].device) if torch.is_tensor(c) else c)

    @torch.no_grad()
    def clip_grad_norm(self, max_norm, aggregate_norm_fn=None):
        """The norm of all gradients as one vector, () float32, before they are clipped to `max_norm` (0: not at all)."""
        grads = self._gradients
        if not grads:
            return super().clip_grad_norm(max_norm, aggregate_norm_fn)
        norm = torch.stack(torch._foreach_norm([_float32(grad) for grad in grads], 2)).float().norm()
        norm = norm if aggregate_norm_fn is None else aggregate_norm_fn(norm)
        if max_norm > 0:
            torch._foreach_mul_(grads, (float(max_norm) / (norm + 1e-6)).clamp_(max=1))
        return norm

    def zero_grad(self):
        for parameter in self.params:
            parameter.grad = None


def _flat(params) -> List[Tensor]:
    """Parameters, or those of groups."""
    return [p for item in params for p in (item["params"] if isinstance(item, dict) else [item])]


def _float32(grad: Tensor) -> Tensor:
    return grad.float() if grad.dtype in _HALF else grad


# fairseq names the optimizer of a checkpoint by its class, and refuses to go on with that of a different name.
BirqAdamW.__name__ = FairseqAdam.__name__
