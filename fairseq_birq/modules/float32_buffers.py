"""Modules that stay in float32 when the rest of the model is cast to fp16 or bf16."""

from torch import nn


class KeepsFloat32(nn.Module):
    """Base of modules whose buffers follow device moves but never lose precision.

    fairseq casts a model with `.half()` or `.bfloat16()`, which would round filter banks, projections and
    codebooks to 8-11 bits and with them change labels.
    """

    def _apply(self, fn, recurse=True):
        def keep_dtype(tensor):
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        return super()._apply(keep_dtype, recurse)
