"""A model's state as tensors alone, which is all that fairseq2 writes into a checkpoint.

What our modules keep besides tensors (`_extra_state`: fingerprints, the stage, counts) becomes JSON in a tensor of bytes.
"""

from typing import Any, Callable

from torch import Tensor, nn

from fairseq_birq.fairseq2_files import EXTRA, pack, unpack, with_extra_state


class WritesThrough(Tensor):
    """A packed state that hands on what is copied into it. fairseq2 loads a checkpoint by copying into `state_dict()`."""

    take: Callable[[Any], None]

    @staticmethod
    def of(packed: Tensor, take: Callable[[Any], None]) -> "WritesThrough":
        made = Tensor._make_subclass(WritesThrough, packed)
        made.take = take
        return made

    def copy_(self, other, non_blocking=False):
        self.take(unpack(other))
        return self


class TensorState(nn.Module):
    """Mixin in front of a model of this package, for fairseq2."""

    def state_dict(self, *args, keep_vars=False, **kwargs):
        state = super().state_dict(*args, keep_vars=keep_vars, **kwargs)
        modules = dict(self.named_modules())
        for key in [key for key in state if key.endswith(EXTRA)]:
            state[key] = pack(state[key])
            if keep_vars:  # whoever asks for these writes into them
                state[key] = WritesThrough.of(state[key], modules[key[: -len(EXTRA) - 1]].set_extra_state)
        return state

    def load_state_dict(self, state_dict, *args, **kwargs):
        return super().load_state_dict(with_extra_state(state_dict), *args, **kwargs)

    def share_extra_states(self, gang) -> None:
        """They become those of the first process, which alone loads a checkpoint that a run starts from.

        gang: of `fairseq2.gang`
        """
        for module in self.modules():
            if type(module).get_extra_state is not nn.Module.get_extra_state:
                packed = pack(module.get_extra_state()).to(gang.device)
                gang.broadcast(packed, source_rank=0)
                module.set_extra_state(unpack(packed))
