"""Checkpoints of fp16 and bf16 runs hold the float32 weights that are trained, not what these round to.

fairseq writes the rounded weights, in the size of float32, and a run that goes on begins with copies of those. A step
that is smaller than the rounding is then lost with every stop.
"""

from contextlib import contextmanager

import torch

from fairseq_birq.patches.master_weights import float32_pairs


def save_float32_weights(trainer) -> None:
    """Every state that `trainer` gives from now on has the float32 copies in place of the parameters."""
    rounded = trainer.state_dict

    def state_dict():
        state = rounded()
        for name, parameter, copy in _named_pairs(trainer):
            state["model"][name] = copy.detach().view_as(parameter)
        return state

    trainer.state_dict = state_dict


@contextmanager
def float32_weights_loaded(trainer):
    """Around fairseq's loading of a checkpoint: afterwards the float32 copies are what the checkpoint has."""
    stored = {}

    def remember(state, prefix, *_):
        stored.update({key: value for key, value in state.items() if torch.is_tensor(value) and value.dtype == torch.float32})

    handle = trainer.get_model()._register_load_state_dict_pre_hook(remember)
    try:
        yield
    finally:
        handle.remove()
    with torch.no_grad():
        for name, parameter, copy in _named_pairs(trainer) if stored else ():
            weights = stored.get(name, parameter).to(copy.device)
            if torch.equal(weights.to(parameter.dtype), parameter):
                copy.copy_(weights.view_as(copy))


def _named_pairs(trainer):
    names = {id(parameter): name for name, parameter in trainer.get_model().named_parameters()}
    return [(names[id(parameter)], parameter, copy) for parameter, copy in float32_pairs(trainer.optimizer)]
