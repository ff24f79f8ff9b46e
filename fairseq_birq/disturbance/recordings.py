"""Recordings of a manifest, one after the other in memory: noises, or impulse responses of rooms."""

import logging
from typing import Callable, Dict, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

from fairseq_birq.data.audio import AudioError, read, read_header
from fairseq_birq.data.manifest import Manifest, read_manifest, read_rates
from fairseq_birq.devices import to_device
from fairseq_birq.errors import UserError

logger = logging.getLogger(__name__)


class Recordings:
    """All that a manifest names, at one sample rate, as float32: 3.8 MB a minute at 16 kHz, in each process.

    They are read when they are first needed: a checkpoint is used without them.

    Args:
        key: the setting that names the manifest, for errors.
        path: of the manifest, or None where nothing is ever read.
        max_minutes: a longer manifest gives those rows that fill this, in an order that is the same in every run.
        prepare: changes each recording, (S,) float32, as it is read.
    """

    def __init__(
        self,
        key: str,
        path: Optional[str],
        sample_rate: int,
        max_minutes: float,
        prepare: Optional[Callable[[np.ndarray], np.ndarray]] = None,
    ):
        self.key, self.path, self.sample_rate, self.prepare = key, path, sample_rate, prepare
        self.max_samples = int(max_minutes * 60 * sample_rate)
        if self.max_samples < 1:
            raise UserError(f"`{key.rpartition('.')[0]}.max_minutes` must be above 0, but is {max_minutes}")
        self.starts = self.lengths = torch.zeros(0, dtype=torch.int64)  # (recordings,) on the host
        self._samples: Optional[Tensor] = None
        self._on_device: Dict[torch.device, Tensor] = {}

    def __len__(self):
        return len(self.starts)

    def open(self) -> None:
        """Raises UserError where the manifest has no rows, or names a file that cannot be used or is silent."""
        if self._samples is not None:
            return
        try:
            manifest = read_manifest(self.path)
            waves = [self._read(manifest, *place) for place in self._places(manifest)]
        except UserError as error:
            raise UserError(f"`{self.key}`: {error}") from None
        self.lengths = torch.tensor([len(wave) for wave in waves])
        self.starts = self.lengths.cumsum(0) - self.lengths
        self._samples = torch.from_numpy(np.concatenate(waves))
        minutes = len(self._samples) / self.sample_rate / 60
        logger.info(f"{self.path}: {len(waves)} of {len(manifest)} recordings, {minutes:.2f} minutes, are in memory")

    def samples(self, device: torch.device) -> Tensor:
        """(all samples,) float32."""
        self.open()
        if device not in self._on_device:
            self._on_device[device] = to_device(self._samples, device)
        return self._on_device[device]

    def pieces(self, which: Tensor, offsets: Tensor, count: int, device: torch.device) -> Tensor:
        """`count` samples of recordings from `offsets` on; after its end a recording begins again.

        which, offsets: (Q,) int64 on the host -> (Q, count) float32
        """
        table = to_device(torch.stack([self.starts[which], self.lengths[which], offsets]).int()[:, :, None], device)
        starts, lengths, offsets = table.unbind(0)
        index = (offsets + torch.arange(count, dtype=torch.int32, device=device)).remainder_(lengths).add_(starts)
        return self.samples(device).index_select(0, index.flatten()).view(len(which), count)

    def _places(self, manifest: Manifest):
        """(row, its file's rate, most samples to read at our rate) of the rows that fill the memory that is allowed."""
        rates = read_rates(manifest)
        rate = read_header(manifest.audio_path(0)).sample_rate if rates is None else 0
        order, left = np.random.default_rng(1).permutation(len(manifest)), self.max_samples
        for row in order.tolist():
            if left < 1:
                return
            file_rate = rate if rates is None else int(rates[row])
            samples = -(-manifest.count(row) * self.sample_rate // file_rate)
            yield row, file_rate, min(left, samples)
            left -= samples

    def _read(self, manifest: Manifest, row: int, file_rate: int, count: int) -> np.ndarray:
        path = manifest.audio_path(row)
        wave, _ = read(path, self.sample_rate, 0, count, file_rate=file_rate)
        if not wave.any():
            raise AudioError(f"{path}: is silent; take it out of {manifest.path}")
        return np.ascontiguousarray(wave if self.prepare is None else self.prepare(wave), dtype=np.float32)

    def __deepcopy__(self, memo) -> "Recordings":
        """Copies of a model share what is in memory: nothing ever changes it."""
        return self


def needs_manifest(key: str, prob: float, path: Optional[str]) -> Tuple[float, Optional[str]]:
    """Raises UserError where something that needs a manifest is on without one."""
    if prob > 0 and not path:
        raise UserError(f"`{key}.prob` is {prob:g}, so `{key}.manifest` must name a .tsv of recordings; birq-manifest makes one")
    return prob, path
