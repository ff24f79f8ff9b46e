"""Latent-RQ's targets: codes of a frozen copy of the encoder, renewed at named updates."""

from typing import Optional, Sequence, Tuple

from torch import Tensor

from fairseq_birq.errors import UserError
from fairseq_birq.targets.base import TargetInputs
from fairseq_birq.targets.frozen_encoder import FrozenEncoderTargets
from fairseq_birq.targets.raw_input import RawInputTargets


class SnapshotTargets(FrozenEncoderTargets):
    """Hard codes of a snapshot of the encoder (Latent-RQ, Huzaifah et al., PMLR 312:78-93, 2026, section 3).

    Stage 0 is BEST-RQ. With every named update a stage begins: the snapshot becomes a copy of the encoder, and the
    first batch sets the statistics of its normalisation. Projections and codebooks are the same in all stages.

    Args:
        encoder, layers, normalisations, quantizers: see `FrozenEncoderTargets`.
        target_updates: how many updates the encoder has had when it is copied, growing.
        raw_input: makes the N label columns of stage 0; None: there are no targets in stage 0, other sources train alone.
        stage: 0, or 1 where `encoder` comes from a checkpoint.
        encoder_settings: what that encoder is built from, as plain values; goes into this run's checkpoints.
        reset_heads: the prediction heads begin each stage with new weights.
        reset_optimizer: the optimizer begins each stage without memory.
    """

    name = "snapshot"

    def __init__(
        self,
        encoder,
        layers,
        normalisations,
        quantizers,
        target_updates: Sequence[int],
        raw_input: Optional[RawInputTargets] = None,
        stage: int = 0,
        reset_heads: bool = True,
        reset_optimizer: bool = True,
        encoder_settings: Optional[dict] = None,
    ):
        super().__init__(encoder, layers, normalisations, quantizers)
        self.target_updates = tuple(target_updates)
        self.raw_input = raw_input
        self.stage = stage
        self.reset_heads, self.reset_optimizer = reset_heads, reset_optimizer
        self.encoder_settings = encoder_settings
        self.num_updates = 0

    @property
    def active(self) -> bool:
        return self.stage > 0 or self.raw_input is not None

    @property
    def columns(self) -> Tuple[str, ...]:
        return super().columns if self.stage else ()

    def forward(self, inputs: TargetInputs) -> Tensor:
        return super().forward(inputs) if self.stage else self.raw_input(inputs)

    def update(self, speech_encoder, num_updates: int) -> bool:
        before, self.num_updates = self.num_updates, num_updates
        if not any(before < update <= num_updates for update in self.target_updates):
            return False
        self.encoder.copy(speech_encoder)
        for normalisation in self.normalisations:
            normalisation.reset()
        self.stage += 1
        return True

    def get_extra_state(self):
        state = {**super().get_extra_state(), "stage": self.stage, "num_updates": self.num_updates}
        return state if self.encoder_settings is None else {**state, "encoder_settings": self.encoder_settings}

    def set_extra_state(self, state):
        super().set_extra_state(state)
        self.stage, self.num_updates = state["stage"], state["num_updates"]


def checked_target_updates(updates: Sequence[int], key: str) -> Tuple[int, ...]:
    """Raises UserError unless they are positive and grow."""
    updates = tuple(updates)
    if any(later <= earlier for earlier, later in zip((0, *updates), updates)):
        raise UserError(f"`{key}` is {list(updates)}; give update counts above 0, each larger than the one before")
    return updates
