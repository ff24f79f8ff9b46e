"""Typed results that stages hand to each other, and the one legend of shape letters.

| letter | meaning |
| --- | --- |
| B | utterances in the batch |
| S | audio samples of the longest utterance |
| F | feature frames (10 ms log-Mel frames, or the waveform CNN's frames) |
| T | encoder frames after subsampling (40 ms, or 20 ms with the waveform CNN) |
| D | feature dimension; `d` is the encoder's width |
| N | codebooks |
| V | codes per codebook |
| M | masked, non-padded encoder frames: the only frames that carry a loss |

`padding_mask` is True on padding and `mask` is True on masked frames, everywhere. The results of the losses stand beside the
equations that make them: `LossTerm` in objective/losses.py, `SoftCodes` in objective/soft_codes.py.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Dict, List, Optional, Tuple

import torch
from torch import Tensor

from fairseq_birq.devices import to_device

if TYPE_CHECKING:
    from fairseq_birq.objective.losses import LossTerm


@dataclass
class Features:
    """Frames on their way to the encoder."""

    x: Tensor  # (B, F, D) float; zero on padding
    padding_mask: Tensor  # (B, F) bool


@dataclass(frozen=True)
class Chunks:
    """Attention in chunks: a frame sees the frames of its own chunk and of some chunks before it, and none after it."""

    num_frames: int  # encoder frames of a chunk; the first chunk begins with the utterance
    left: Optional[int] = None  # chunks before its own; None: all
    full_rows: int = 0  # so many last rows of the batch see everything


@dataclass
class LayerInputs:
    """What all layers of one run share besides the hidden states."""

    padding_mask: Optional[Tensor]  # (B, T) bool; None if nothing is padded
    keep: Optional[Tensor] = None  # (B or 1, 1, 1 or T, T): keys that a query may attend to, bool or `additive`; None if all
    positions: Optional[Tuple[Tensor, ...]] = None  # position tables, the same for all rows
    clean_rows: int = 0  # so many last rows of the batch are computed as in eval mode

    def last_rows(self, count: int) -> "LayerInputs":
        """The same for the last `count` rows alone, all of them clean."""
        padding_mask = None if self.padding_mask is None else self.padding_mask[-count:]
        keep = self.keep if self.keep is None or self.keep.shape[0] == 1 else self.keep[-count:]
        return replace(self, padding_mask=padding_mask, keep=keep, clean_rows=count)


@dataclass
class Encoded:
    """Hidden states of an encoder, one tensor per layer that was run."""

    layers: List[Tensor]  # each (B, T, d); layers[i] is the output of layer i + 1
    padding_mask: Tensor  # (B, T) bool
    subsampled: Optional[Tensor] = None  # (B, T, d): what went into the first layer ("layer -1" of Latent-RQ)

    @property
    def last(self) -> Tensor:
        return self.layers[-1]


@dataclass
class TargetInputs:
    """The unmasked view of a batch, from which sources make targets.

    What is known of a batch before it is computed (masks, lengths, keys) may stay on the host, whatever the device is.
    """

    waveform: Tensor  # (B, S) float
    padding_mask: Tensor  # (B, S) bool
    features: Features  # the frontend's unmasked, normalised features: (B, F, D)
    frame_padding_mask: Tensor  # (B, T) bool, of encoder frames
    selected: Tensor  # (views * B, T) bool: the M frames that need a target; row r is utterance r % B
    keys: Optional[Tensor] = None  # (views * B,) int64: random numbers of a row
    hidden: Dict[int, Tensor] = field(default_factory=dict)  # layer -> (B, T, d) on unmasked input
    codes: Optional[Tensor] = None  # (B, T, N) int64: labels that came with the batch
    num_frames: Optional[List[int]] = None  # of each utterance; None: `frame_padding_mask` tells

    def gather(self, x: Tensor) -> Tensor:
        """The selected frames, row by row. x: (B, T, D) -> (M, D)."""
        return x[:, : self.selected.shape[1]].flatten(0, 1).index_select(0, self._selected)

    def valid(self, x: Tensor) -> Tensor:
        """All frames that are not padding, row by row. x: (B, T, D) -> (frames, D)."""
        flat = x.flatten(0, 1)
        return flat if len(self._valid) == flat.shape[0] else flat.index_select(0, self._valid)

    def frames(self) -> Tuple[Tensor, Tensor]:
        """Row and column of every selected frame: (M,) int64 each, on the host."""
        return self._frames

    @property
    def padding_or_none(self) -> Optional[Tensor]:
        """`frame_padding_mask`, or None where the host knows that nothing is padded."""
        known = self.num_frames is not None and min(self.num_frames) == self.frame_padding_mask.shape[1]
        return None if known else self.frame_padding_mask

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name == "selected":
            for known in ("_frames", "_selected"):
                self.__dict__.pop(known, None)

    @cached_property
    def _frames(self) -> Tuple[Tensor, Tensor]:
        rows, columns = self.selected.cpu().nonzero(as_tuple=True)
        return rows, columns

    @cached_property
    def _selected(self) -> Tensor:
        rows, columns = self._frames
        index = (rows % self.frame_padding_mask.shape[0]) * self.selected.shape[1] + columns
        return to_device(index, self.features.x.device)

    @cached_property
    def _valid(self) -> Tensor:
        if self.num_frames is None:
            valid = ~self.frame_padding_mask.cpu()
        else:
            valid = torch.arange(self.frame_padding_mask.shape[1]) < torch.tensor(self.num_frames)[:, None]
        return to_device(valid.flatten().nonzero().squeeze(1), self.features.x.device)


@dataclass
class PretrainingOutput:
    """What one forward gives to the criterion; sums over the M masked frames of all views."""

    loss: Tensor  # differentiable: weighted sum over sources, nats, mean over label columns
    terms: Dict[str, "LossTerm"]  # what each source contributes to it
    num_masked: int  # M
    num_frames: int  # encoder frames that are not padding, all views together
    num_padded: int  # encoder frames that are
    audio_seconds: float  # without padding, each utterance once
    columns: Dict[str, Tuple[str, ...]] = field(default_factory=dict)  # per source, the group of each label column
    stage: Optional[int] = None  # of the source whose targets change in stages, if any
    realised: Optional[Dict[str, Tensor]] = None  # what disturbed the input, see `disturbance/disturber.py:Heard`


@dataclass
class CtcOutput:
    """Scores of every symbol of the dictionary at every CTC frame; T here is encoder frames x `upsample`."""

    logits: Tensor  # (B, T, V) float
    padding_mask: Tensor  # (B, T) bool
    realised: Optional[Dict[str, Tensor]] = None  # as in `PretrainingOutput`
