"""What a target source is given and what it promises."""

from dataclasses import dataclass
from typing import Optional

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
    selected: Tensor  # (B, T) bool: the M frames that need a target


class TargetSource(nn.Module):
    """One kind of targets: where features come from, and how a code is selected.

    A source returns `(M, N)` int64 codes for the selected frames in row-major order of `inputs.selected`. Its buffers
    go into the checkpoint; it has no trained parameters.
    """

    name: str

    def forward(self, inputs: TargetInputs) -> Tensor:
        raise NotImplementedError

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
