"""A batch of our collaters as fairseq2's trainer moves it to a device."""

from fairseq2.device import SupportsDeviceTransfer
from torch import Tensor


class Batch(SupportsDeviceTransfer):
    """content: the dict of a collater (see `AudioDataset.collater`); what is in `on_host` stays there."""

    def __init__(self, content: dict):
        self.content = content

    def to(self, device, *, non_blocking: bool = False) -> None:
        self.content = {key: _moved(value, device, non_blocking) for key, value in self.content.items()}

    def __repr__(self) -> str:
        return f"Batch(ids={self.content['on_host']['ids']}, num_samples={self.content['on_host']['num_samples']})"


def _moved(value, device, non_blocking):
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=non_blocking)
    if isinstance(value, dict):
        return {key: _moved(one, device, non_blocking) for key, one in value.items()}
    return value
