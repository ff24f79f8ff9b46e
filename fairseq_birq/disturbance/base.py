"""What every kind of disturbance is: a probability, random numbers of its own, and a change of the rows that it hits."""

from dataclasses import dataclass
from typing import Any, Dict, List

import torch
from torch import Tensor, nn

from fairseq_birq.devices import to_device
from fairseq_birq.errors import UserError
from fairseq_birq.objective.masking import uniforms

PREFIX = "model.disturbance"


@dataclass
class Disturbed:
    """The R utterances of a batch that are disturbed, on their way from one kind of disturbance to the next."""

    x: Tensor  # (R, S) float32; zero on padding
    valid: Tensor  # (R, S) bool: not padding
    rows: Tensor  # (R,) int64 on the host: which utterances of the batch
    keys: Tensor  # (R,) int64 on the host, see `objective/masking.py`
    lengths: Tensor  # (R,) int64 on the host, in samples
    batch: "Batch"
    speech_power: Any = None  # (R,) float32: mean square of the utterance itself, reverberated or not

    def valid_of(self, rows: Tensor) -> Tensor:
        """(Q,) int64 on the host -> (Q, S) bool."""
        return self.valid.index_select(0, to_device(rows, self.valid.device))

    def power(self, x: Tensor, rows: Tensor) -> Tensor:
        """Mean square of x over the samples of some of the R utterances: (Q, S), (Q,) -> (Q,)."""
        lengths = to_device(self.lengths[rows].clamp(min=1).float(), x.device)
        return torch.linalg.vector_norm(x, dim=1).square() / lengths


@dataclass
class Batch:
    """What is known of all utterances of a batch; all but the waveform stays on the host."""

    waveform: Tensor  # (B, S) float
    padding_mask: Tensor  # (B, S) bool
    ids: Tensor  # (B,) int64 on the host
    keys: Tensor  # (B,) int64 on the host
    num_samples: List[int]


class Disturbance(nn.Module):
    """A change of waveforms that hits an utterance with a probability. Which ones, and how, are draws of their keys.

    A new kind is one file and one line in the registry. Its class has a `Config`, `build(cfg, sample_rate)` and `apply`.
    """

    name = ""
    stream = 0  # of the keys' random numbers; `objective/masking.py` has 1 to 3
    Config: Any = None
    realised: tuple = ()  # what it counts, beside the utterances that it hits

    def __init__(self, prob: float):
        super().__init__()
        self.prob = checked_prob(f"{PREFIX}.{self.name}.prob", prob)

    def open(self) -> None:
        """Read what it needs, if it needs anything. Raises UserError where that cannot be used."""

    def hits(self, keys: Tensor) -> Tensor:
        """(R,) int64 keys on the host -> (R,) bool."""
        return uniforms(keys, torch.zeros_like(keys), self.stream) < self.prob

    def draws(self, keys: Tensor, count: int) -> List[Tensor]:
        """`count` numbers in [0, 1) for every utterance, each (R,) float64 on the host."""
        positions = 1 + torch.arange(count)
        return list(uniforms(keys[:, None], positions[None, :], self.stream).unbind(1))

    def apply_to(self, disturbed: Disturbed, rows: Tensor) -> Dict[str, Tensor]:
        """Change `disturbed.x` in some rows, (Q,) int64 on the host.

        Returns:
            what was realised, summed over the rows: scalars by `name` and the names in `realised`.
        """
        raise NotImplementedError


def between(drawn: Tensor, low: float, high: float) -> Tensor:
    return low + drawn * (high - low)


def add_at_snr(disturbed: Disturbed, rows: Tensor, added: Tensor, power: Tensor, snr_db: Tensor) -> Tensor:
    """Add sounds to some rows, each so loud that the utterance is `snr_db` above it; silence adds nothing.

    Args:
        rows: (Q,) int64 on the host.
        added: (Q, S) float32; power: (Q,) float32, its mean square as the ratio counts it.
        snr_db: (Q,) float64 on the host.

    Returns:
        (Q,) bool: where neither was silent, so that the ratio is the drawn one.
    """
    index = to_device(rows, added.device)
    speech = disturbed.speech_power.index_select(0, index)
    ratio = to_device((10.0 ** (-snr_db / 10.0)).float(), added.device)
    gain = (speech / power.clamp(min=torch.finfo(torch.float32).tiny) * ratio).sqrt()
    heard = (power > 0) & (speech > 0)
    disturbed.x.index_add_(0, index, added * torch.where(heard, gain, torch.zeros_like(gain))[:, None])
    return heard


def sums(name: str, heard: Tensor, snr_db: Tensor) -> Dict[str, Tensor]:
    """How many utterances a sound was added to, and the sum of their ratios in dB."""
    snr_db = to_device(snr_db, heard.device)
    return {name: heard.double().sum(), f"{name}_snr_db": (snr_db * heard).sum()}


def checked_prob(key: str, prob: float) -> float:
    if not 0 <= prob <= 1:
        raise UserError(f"`{key}` must be in [0, 1], but is {prob}")
    return prob


def checked_range(prefix: str, low_name: str, low: float, high_name: str, high: float):
    if low > high:
        raise UserError(f"`{prefix}.{low_name}` is {low} and above `{prefix}.{high_name}`, which is {high}; exchange them")
    return low, high
