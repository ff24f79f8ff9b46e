"""What differs between the CPU and an accelerator: how numbers get there without a wait, and how much is done at once."""

import torch
from torch import Tensor

_BLOCK_BYTES = {"cpu": 16 << 20}  # what a CPU's cache can still help with
_BLOCK_BYTES_ELSEWHERE = 1 << 30  # an accelerator wants few launches


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """x of the host on a device, without waiting for what the device is doing."""
    if x.device.type != "cpu" or device.type == "cpu":
        return x.to(device)
    return (x.pin_memory() if device.type == "cuda" else x).to(device, non_blocking=True)


def block_bytes(block_mb: float, device: torch.device) -> int:
    """Most bytes of scores or logits that are alive at once. block_mb: `model.block_mb`; 0: what suits the device."""
    return int(block_mb * (1 << 20)) or _BLOCK_BYTES.get(device.type, _BLOCK_BYTES_ELSEWHERE)


def is_compiling() -> bool:
    """Whether torch.compile or an exporter follows: they want plain operations, and a compiler joins those by itself."""
    return torch.jit.is_tracing() or torch.compiler.is_compiling()
