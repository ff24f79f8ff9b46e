"""Encoder layers through torch.compile: fewer and larger kernels, with the same weights, names and checkpoints.

All layers share one compiled function whose batch size and length are symbols, so that layers and lengths need no compilation
of their own. What does: with and without padding, clean rows, gradient and dropout, and a batch of one row.
"""

import importlib.util
import os
import shutil
from functools import lru_cache

import torch
from torch import Tensor

from fairseq_birq.errors import UserError

OLDEST_TORCH = (2, 5)  # before it every layer was compiled by itself
MOST_VARIANTS = 64  # torch gives up compiling at 8; a BiRQ run with validation, probes and a batch of one row has more
BACKEND = "inductor"


def apply_compiled(layer, x: Tensor, inputs) -> Tensor:
    """`layer(x, inputs)`, with what an encoder gives its layers; x: (B, T, d) float -> (B, T, d).

    Dropout draws other random numbers than without compilation, from the same generator.

    Raises:
        UserError: nothing can be compiled here, see `check_can_compile`.
    """
    return _compiled(BACKEND, x.device.type)(layer, x, inputs)


def _apply(layer, x, inputs):
    return layer(x, inputs)


@lru_cache(None)
def _compiled(backend: str, device_type: str):
    if backend == "inductor":
        check_can_compile(device_type)
    from torch._dynamo import config as settings

    name = "recompile_limit" if hasattr(settings, "recompile_limit") else "cache_size_limit"  # renamed in torch 2.6
    setattr(settings, name, max(getattr(settings, name), MOST_VARIANTS))
    return torch.compile(_apply, dynamic=True, backend=backend)


def check_can_compile(device_type: str) -> None:
    """Raises UserError where torch is too old, or the compiler that it calls for this device is missing."""
    need = f"`model.compile_layers` needs {{}} (torch {torch.__version__} is installed): {{}}, or set it to false"
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < OLDEST_TORCH:
        raise UserError(need.format("torch {}.{} or newer".format(*OLDEST_TORCH), "install it"))
    from torch._dynamo import is_dynamo_supported

    if not is_dynamo_supported():
        raise UserError(need.format("a torch that can compile on this system and Python", "install a newer one"))
    if device_type != "cpu" and importlib.util.find_spec("triton") is None:
        raise UserError(need.format(f"triton for the device {device_type!r}", "install the one of this torch"))
    variable, names = ("CXX", ("g++", "clang++")) if device_type == "cpu" else ("CC", ("gcc", "clang"))
    if not any(shutil.which(name) for name in (os.environ.get(variable, ""), *names) if name):
        raise UserError(need.format(f"one of the compilers {' and '.join(names)}", f"install one, or name it in {variable}"))
