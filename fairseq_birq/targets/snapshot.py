"""Latent-RQ's targets: codes of a frozen copy of the encoder, renewed at named updates."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import List, Optional, Sequence, Tuple

from torch import Tensor

from fairseq_birq.encoders import ENCODERS, EncoderConfig
from fairseq_birq.errors import UserError
from fairseq_birq.frontends import FRONTENDS, FrontendConfig
from fairseq_birq.settings import from_dict, setting, to_dict
from fairseq_birq.targets.base import TargetContext, TargetInputs
from fairseq_birq.targets.frozen_encoder import FrozenEncoderTargets, frozen_parts
from fairseq_birq.targets.normalisation import MODES
from fairseq_birq.targets.raw_input import RawInputTargets


@dataclass
class SnapshotConfig:
    """Latent-RQ's hard codes of a frozen copy of the encoder; its N codebooks are shared out over the layers."""

    layers: List[int] = setting(list, "counted from 1; 0 = what enters the first layer. Latent-RQ's numbers are one smaller")
    target_updates: List[int] = setting(list, "updates at which the encoder is copied and a stage begins")
    normalisation: str = setting("standardize+layer", "normalisation of hidden states before the projection", MODES)
    statistics_batches: int = setting(1, "batches after a copy that set the statistics of the normalisation")
    reset_heads: bool = setting(True, "new prediction heads for these codes with every copy")
    reset_optimizer: bool = setting(True, "clear the optimizer's state with every copy")
    seed: int = setting(3, "seed of the projections and codebooks")


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

    name, Config = "snapshot", SnapshotConfig
    takes_target_encoder = True
    stage: int
    raw_input: Optional[RawInputTargets]

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

    @classmethod
    def build(cls, cfg: SnapshotConfig, context: TargetContext) -> "SnapshotTargets":
        updates = checked_target_updates(cfg.target_updates, "model.targets.snapshot.target_updates")
        _check(cfg, updates, context)
        first = context.target_encoder
        raw_input = None
        if RawInputTargets.name not in context.sources:
            raw_input = RawInputTargets.build(context.cfg.targets.raw_input, context)
        return cls(
            **frozen_parts(cfg, cls.name, context, momentum=0.0, max_batches=cfg.statistics_batches),
            target_updates=updates,
            raw_input=raw_input,
            stage=1 if first else 0,
            reset_heads=cfg.reset_heads,
            reset_optimizer=cfg.reset_optimizer,
            encoder_settings=first and {part: to_dict(getattr(first[0], part)) for part in ("frontend", "encoder")},
        )

    @classmethod
    def stored_encoder_settings(cls, extra_state) -> Optional[SimpleNamespace]:
        settings = extra_state.get("encoder_settings") if isinstance(extra_state, dict) else None
        if settings is None:
            return None
        parts = {"frontend": FrontendConfig, "encoder": EncoderConfig}
        if not isinstance(settings, dict) or set(settings) != set(parts):
            raise UserError(f"they must have {' and '.join(parts)}, but are {settings!r:.80}")
        return SimpleNamespace(**{part: from_dict(config, settings[part], part) for part, config in parts.items()})

    @property
    def active(self) -> bool:
        return self.stage > 0 or self.raw_input is not None

    @property
    def columns(self) -> Tuple[str, ...]:
        return super().columns if self.stage else ()

    def forward(self, inputs: TargetInputs) -> Tensor:
        if self.stage:
            return super().forward(inputs)
        assert self.raw_input is not None
        return self.raw_input(inputs)

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


def _check(cfg: SnapshotConfig, updates, context: TargetContext) -> None:
    if not updates and not context.target_encoder:
        raise UserError(
            "the snapshot would never be taken: name updates in `model.targets.snapshot.target_updates`, or a checkpoint "
            "in `model.target_encoder_path`"
        )
    if updates and context.target_encoder and not _same_architecture(context.cfg, context.target_encoder[0]):
        raise UserError(
            "the encoder in `model.target_encoder_path` has other `frontend` or `encoder` settings than this run's, so "
            "that no copy of this run's can take its place: leave `model.targets.snapshot.target_updates` empty"
        )
    if cfg.statistics_batches < 1:
        raise UserError(f"`model.targets.snapshot.statistics_batches` must be at least 1, but is {cfg.statistics_batches}")


def _same_architecture(ours, other) -> bool:
    """Whether frontend and encoder differ at most in what only training knows."""
    training = ("dropout", "attention_dropout", "activation_dropout", "layer_dropout", "checkpoint_activations")

    def settings(cfg):
        parts = [FRONTENDS[cfg.frontend.name].settings(cfg.frontend), ENCODERS[cfg.encoder.name].settings(cfg.encoder)]
        plain = [{key: value for key, value in part.items() if key not in training} for part in parts]
        return [cfg.frontend.name, cfg.encoder.name, *plain]

    return settings(ours) == settings(other)
