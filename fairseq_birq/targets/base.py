"""What a target source is given and what it promises."""

from dataclasses import dataclass
from typing import Any, Mapping, Optional, Tuple

import torch
from torch import nn

from fairseq_birq.builders import build_quantizer
from fairseq_birq.errors import UserError
from fairseq_birq.objective.quantizer import RandomProjectionQuantizer
from fairseq_birq.structs import TargetInputs

__all__ = ["ScaleGradient", "TargetContext", "TargetInputs", "TargetSource", "check_share"]


@dataclass
class TargetContext:
    """What a source is built with, besides its own settings."""

    cfg: Any  # the `BirqConfig` of the whole model
    frontend: nn.Module  # the trained encoder's
    sources: Mapping[str, Any]  # those that are built already, in the order of the registry
    target_encoder: Optional[Tuple[Any, Optional[dict]]] = None  # settings (with `frontend` and `encoder`) and weights of
    # an encoder that is not trained; no weights where a checkpoint's are loaded next

    def quantizer(self, input_dim: int, **changes) -> RandomProjectionQuantizer:
        """`model.quantizer` over `input_dim` dimensions. changes: see `build_quantizer`."""
        return build_quantizer(self.cfg.quantizer, input_dim, self.cfg.block_mb, **changes)


def check_share(key: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise UserError(f"`model.targets.{key}` must be from 0 to 1, but is {value:g}")


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
    Config: type  # of `model.targets.<name>`
    codebook_size: int  # V
    shares_head_with: Optional[str] = None  # the source whose prediction head it uses; None: it has its own
    is_fixed = False  # whether training cannot change its codes
    needs_label_files = False  # whether codes come with the batch, so that audio alone gives none
    takes_target_encoder = False  # whether it is built with `model.target_encoder_path`
    hidden_layers: Tuple[int, ...] = ()  # of the encoder on unmasked input that `inputs.hidden` must hold
    target_dropout = False  # whether they are computed with dropout
    diversity_weight = 0.0  # of the reward for varied soft codes
    stage: Optional[int] = None  # how often the targets have been renewed; None where training knows no stages
    target_updates: Tuple[int, ...] = ()  # at which updates they are
    reset_heads = reset_optimizer = False  # what begins anew with a stage

    @classmethod
    def build(cls, cfg, context: TargetContext) -> "TargetSource":
        """From its own settings, a `Config`. Raises UserError for settings that cannot be."""
        raise NotImplementedError

    @classmethod
    def stored_encoder_settings(cls, extra_state) -> Optional[Any]:
        """Settings of an encoder whose weights come with a checkpoint, from the source's state there; None: there is none."""
        return None

    @property
    def needs_gradient(self) -> bool:
        """Whether training goes through the `hidden_layers`."""
        return False

    @property
    def active(self) -> bool:
        """Whether there are targets by now; without any, the source is left out."""
        return True

    @property
    def of_each_batch(self) -> Tuple[str, ...]:
        """What is computed from one batch at a time, so that several small ones (`update_freq`) are not one large one."""
        statistics = any(norm.mode != "layer" for norm in getattr(self, "normalisations", ()))
        reward = bool(self.diversity_weight)
        return ("statistics of hidden states",) * statistics + ("the reward for varied labels",) * reward

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
