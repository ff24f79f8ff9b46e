"""AdamW with the numbers of fairseq's `adam`, in a few launches instead of ten a parameter.

Decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101). torch's fused kernels do the step, on CUDA and on the CPU.
"""

import math
from collections import defaultdict
from typing import List

import torch

from fairseq_birq.errors import UserError


class GroupedAdamW(torch.optim.Optimizer):
    """AdamW over all parameters at once.

    The state of a parameter is that of fairseq's Adam: `step`, a Python int, `exp_avg` and `exp_avg_sq`. `eps` is added to
    the root of the second moment before its bias is corrected, as in fairseq; torch's AdamW adds it afterwards.

    Args:
        params: float32 or float64 parameters.
    """

    supports_memory_efficient_fp16 = False
    supports_flat_params = True

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
        super().__init__(params, dict(lr=lr, betas=tuple(betas), eps=eps, weight_decay=weight_decay, amsgrad=False))

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for (step, device, _), members in self._by_step(group["params"]).items():
                states = [self.state[parameter] for parameter in members]
                update = _fused_update if device.type in _fused_devices() else _foreach_update
                grads = [parameter.grad for parameter in members]
                update(members, grads, [s["exp_avg"] for s in states], [s["exp_avg_sq"] for s in states], step, group)
        return loss

    def _by_step(self, parameters):
        """The parameters that have a gradient, by their count of steps with this one, device and type."""
        parts = defaultdict(list)
        for parameter in parameters:
            if parameter.grad is None:
                continue
            state = self.state[parameter]
            if not state:
                state.update(step=0, exp_avg=torch.zeros_like(parameter), exp_avg_sq=torch.zeros_like(parameter))
            state["step"] += 1
            parts[state["step"], parameter.device, parameter.dtype].append(parameter)
        return parts

    def load_state_dict(self, state_dict):
        """Of this optimizer, of fairseq's `adam`, and of that with apex, which counts steps per group.

        Raises:
            UserError: the state is of an optimizer that is not Adam.
        """
        counted = {index: group["step"] for group in state_dict["param_groups"] if "step" in group for index in group["params"]}
        states = {index: _checked(state, counted.get(index)) for index, state in state_dict["state"].items()}
        groups = [{key: value for key, value in group.items() if key != "step"} for group in state_dict["param_groups"]]
        super().load_state_dict({**state_dict, "state": states, "param_groups": groups})


def _checked(state: dict, steps_of_group) -> dict:
    steps = state.get("step", steps_of_group)
    if steps is None or "exp_avg" not in state or "exp_avg_sq" not in state:
        raise UserError(
            f"the checkpoint's optimizer state has {sorted(state)}, but `birq_adamw` goes on from Adam's exp_avg, exp_avg_sq and "
            "step only: set checkpoint.reset_optimizer=true to begin with a new state"
        )
    return {"step": int(steps), "exp_avg": state["exp_avg"], "exp_avg_sq": state["exp_avg_sq"]}


def _fused_devices() -> List[str]:
    return ["cuda", "cpu", torch._C._get_privateuse1_backend_name()]


def _fused_update(params, grads, exp_avgs, exp_avg_sqs, step: int, group) -> None:
    """torch's kernel adds eps to the corrected root, so it gets fairseq's divided by the correction."""
    (beta1, beta2), correction = group["betas"], math.sqrt(1 - group["betas"][1] ** step)
    steps = torch.full((), float(step), device=params[0].device)
    torch._fused_adamw_(
        params,
        grads,
        exp_avgs,
        exp_avg_sqs,
        [],
        [steps] * len(params),
        lr=group["lr"],
        beta1=beta1,
        beta2=beta2,
        weight_decay=group["weight_decay"],
        eps=group["eps"] / correction,
        amsgrad=False,
        maximize=False,
    )


def _foreach_update(params, grads, exp_avgs, exp_avg_sqs, step: int, group) -> None:
    """The same formulas, one by one, where there is no fused kernel."""
    beta1, beta2 = group["betas"]
    torch._foreach_mul_(exp_avgs, beta1)
    torch._foreach_add_(exp_avgs, grads, alpha=1 - beta1)
    torch._foreach_mul_(exp_avg_sqs, beta2)
    torch._foreach_addcmul_(exp_avg_sqs, grads, grads, value=1 - beta2)
    roots = torch._foreach_sqrt(exp_avg_sqs)
    torch._foreach_add_(roots, group["eps"])
    if group["weight_decay"] != 0:
        torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
    step_size = group["lr"] * math.sqrt(1 - beta2**step) / (1 - beta1**step)
    torch._foreach_addcdiv_(params, exp_avgs, roots, value=-step_size)
