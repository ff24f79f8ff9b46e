"""Checkpoints of fp16 and bf16 runs hold the float32 weights that are trained, not what these round to.

fairseq writes the rounded weights, in the size of float32, and a run that goes on begins with copies of those. A step
that is smaller than the rounding is then lost with every stop.
"""

from contextlib import contextmanager

import torch

from fairseq_birq.patches.master_weights import float32_pairs


def with_float32_weights(trainer, state: dict) -> dict:
    """fairseq's state of `trainer`, with the float32 copies in place of the parameters."""
    for name, parameter, copy in _named_pairs(trainer):
        state["model"][name] = copy.detach().view_as(parameter)
    return state


@contextmanager
def float32_weights_loaded(trainer):
    """Around fairseq's loading of a checkpoint: afterwards the float32 copies are what the checkpoint has."""
    model, stored = trainer.get_model(), {}
    load_state_dict = model.load_state_dict

    def remember(state, *args, **kwargs):
        # fairseq copies the model next, for `ema.store_ema`: a copy with this attribute would load into the trained model.
        del model.load_state_dict
        result = load_state_dict(state, *args, **kwargs)
        stored.update({key: value for key, value in state.items() if torch.is_tensor(value) and value.dtype == torch.float32})
        return result

    model.load_state_dict = remember
    try:
        yield
    finally:
        vars(model).pop("load_state_dict", None)  # of this object alone: the class has it
    with torch.no_grad():
        for name, parameter, copy in _named_pairs(trainer) if stored else ():
            weights = stored.get(name, parameter).to(copy.device)
            if torch.equal(weights.to(parameter.dtype), parameter):
                copy.copy_(weights.view_as(copy))


def _named_pairs(trainer):
    names = {id(parameter): name for name, parameter in trainer.get_model().named_parameters()}
    return [(names[id(parameter)], parameter, copy) for parameter, copy in float32_pairs(trainer.optimizer)]
