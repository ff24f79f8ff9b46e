"""What a target source is given and what it promises."""

from dataclasses import dataclass, field
from typing import Dict, Optional, Tuple

import torch
from torch import Tensor, nn

from fairseq_birq.errors import UserError
from fairseq_birq.structs import Features


@dataclass
class TargetInputs:
    """The unmasked view of a batch, from which sources make targets."""

    waveform: Tensor  # (B, S) float
    padding_mask: Tensor  # (B, S) bool
    features: Features  # the frontend's unmasked, normalised features: (B, F, D)
    frame_padding_mask: Tensor  # (B, T) bool, of encoder frames
    selected: Tensor  # (views * B, T) bool: the M frames that need a target; row r is utterance r % B
    keys: Optional[Tensor] = None  # (views * B,) int64: random numbers of a row
    hidden: Dict[int, Tensor] = field(default_factory=dict)  # layer -> (B, T, d) on unmasked input
    codes: Optional[Tensor] = None  # (B, T, N) int64: labels that came with the batch

    def gather(self, x: Tensor) -> Tensor:
        """The selected frames, row by row. x: (B, T, D) -> (M, D)."""
        rows, columns = self.frames()
        return x[rows % x.shape[0], columns]

    def frames(self) -> Tuple[Tensor, Tensor]:
        """Row and column of every selected frame: (M,) int64 each."""
        return self.selected.nonzero(as_tuple=True)


class ScaleGradient(torch.autograd.Function):
    """Identity whose gradient is multiplied by `scale`: 1 trains through the labels, 0 detaches them."""

    @staticmethod
    def forward(ctx, x, scale):
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.scale, None


class TargetSource(nn.Module):
    """One kind of targets: where features come from, and how a code is selected.

    A source returns targets of the selected frames in row-major order of `inputs.selected`: `(M, N)` int64 codes, or
    `SoftCodes`. Its buffers go into the checkpoint; it has no trained parameters.
    """

    name: str
    hidden_layers: Tuple[int, ...] = ()  # of the encoder on unmasked input that `inputs.hidden` must hold
    needs_gradient = False  # whether training goes through these layers
    target_dropout = False  # whether they are computed with dropout
    diversity_weight = 0.0  # of the reward for varied soft codes
    stage: Optional[int] = None  # how often the targets have been renewed; None where training knows no stages
    target_updates: Tuple[int, ...] = ()  # at which updates they are
    reset_heads = reset_optimizer = False  # what begins anew with a stage

    @property
    def active(self) -> bool:
        """Whether there are targets by now; without any, the source is left out."""
        return True

    @property
    def columns(self) -> Tuple[str, ...]:
        """The group under which each label column is logged; empty where there are no groups."""
        return ()

    def forward(self, inputs: TargetInputs):
        raise NotImplementedError

    def update(self, speech_encoder: nn.Module, num_updates: int) -> bool:
        """Follow the trained encoder. Called before every forward of training; the same count again changes nothing.

        Returns:
            Whether a stage began.
        """
        return False

    def fingerprint(self) -> Optional[str]:
        """Hash of everything that decides the codes apart from the audio, or None where training changes them."""
        return None

    def get_extra_state(self):
        return {"fingerprint": self.fingerprint()}

    def set_extra_state(self, state):
        stored, ours = state["fingerprint"], self.fingerprint()
        if stored != ours:
            raise UserError(
                f"the checkpoint's `{self.name}` targets have fingerprint {str(stored)[:12]}, but this configuration "
                f"gives {str(ours)[:12]}: its labels would differ. Set `model.quantizer` and "
                f"`model.targets.{self.name}` as in the run that wrote the checkpoint, or start a new run."
            )
