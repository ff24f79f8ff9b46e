"""BiRQ's enhanced labels: soft codes of the model's own hidden states."""

from dataclasses import dataclass
from typing import List, Optional, Sequence

from torch import Tensor, nn

from fairseq_birq.devices import to_device
from fairseq_birq.errors import UserError
from fairseq_birq.objective.masking import gumbel_offsets
from fairseq_birq.objective.quantizer import RandomProjectionQuantizer
from fairseq_birq.objective.soft_codes import SoftCodes
from fairseq_birq.settings import setting
from fairseq_birq.targets.base import ScaleGradient, TargetContext, TargetInputs, TargetSource, check_share
from fairseq_birq.targets.normalisation import MODES, HiddenNormalisation, batch_statistics


@dataclass
class OwnLayerConfig:
    """BiRQ's soft codes of the encoder's own layers on unmasked input."""

    layers: List[int] = setting(list, "k: the layers, counted from 1")
    normalisation: str = setting("standardize+layer", "normalisation of hidden states before the projection", MODES)
    statistics_momentum: float = setting(0.01, "share of a new batch in the running statistics of the normalisation")
    score_scale: float = setting(20.0, "factor on -||c - z||^2 before the Gumbel-softmax")
    temperature: float = setting(0.5, "tau of the Gumbel-softmax")
    straight_through: bool = setting(False, "the sampled code as label with the distribution's gradient; else the distribution")
    target_grad_scale: float = setting(
        1.0, "factor on the gradient through the labels, the reward's too: 1 = the paper, 0 = detached"
    )
    target_dropout: bool = setting(False, "dropout in the unmasked pass")
    diversity_weight: float = setting(0.0, "reward for varied labels, as a factor beside F; not in the paper")
    shared_codebook: bool = setting(True, "the anchor's codebook; else one of its own")
    shared_head: bool = setting(True, "the anchor's prediction head; else one of its own")
    seed: int = setting(2, "seed of the projections, and of a codebook of its own")


class OwnLayerTargets(TargetSource):
    """`y^(k)(theta; x)`: Gumbel-softmax over the codes of layer k on unmasked input (BiRQ, arXiv 2509.15430, section 3).

    With several layers and N codebooks there are `len(layers) * N` label columns, layer by layer.

    Args:
        layers: k, counted from 1.
        normalisations: one per layer.
        quantizers: one per layer, over d dimensions; they may share the anchor's codebook.
        score_scale: factor on `-|| c - norm(A z) ||^2`; without one, Gumbel noise drowns the scores.
        temperature: tau.
        straight_through: the sampled code as the label, the distribution's gradient.
        target_grad_scale: factor on the gradient that reaches theta through the labels; 1 = the paper, 0 = detached. The
            reward for varied labels has no other road, so this is a factor on its gradient too.
        target_dropout: compute the hidden states with dropout.
        diversity_weight: how much the model adds of `diversity_loss`, relative to F.
        shares_head_with: the source whose prediction head it uses, or None.
    """

    name, Config = "own_layer", OwnLayerConfig
    anchor = "raw_input"  # the source of BiRQ's G, whose codebook and head it may share

    normalisations: Sequence[HiddenNormalisation]
    quantizers: Sequence[RandomProjectionQuantizer]

    def __init__(
        self,
        layers: Sequence[int],
        normalisations: Sequence[HiddenNormalisation],
        quantizers: Sequence[RandomProjectionQuantizer],
        score_scale: float,
        temperature: float = 0.5,
        straight_through: bool = False,
        target_grad_scale: float = 1.0,
        target_dropout: bool = False,
        diversity_weight: float = 0.0,
        shares_head_with: Optional[str] = None,
    ):
        super().__init__()
        self.hidden_layers = tuple(layers)
        self.normalisations = nn.ModuleList(normalisations)  # type: ignore[assignment]
        self.quantizers = nn.ModuleList(quantizers)  # type: ignore[assignment]
        self.score_scale, self.temperature = score_scale, temperature
        self.straight_through = straight_through
        self.target_grad_scale = target_grad_scale
        self.target_dropout = target_dropout
        self.diversity_weight = diversity_weight
        self.shares_head_with = shares_head_with
        self.codebook_size = quantizers[0].codebook_size

    @classmethod
    def build(cls, cfg: OwnLayerConfig, context: TargetContext) -> "OwnLayerTargets":
        _check(cfg, context.cfg.encoder.num_layers)
        dim, anchor = context.cfg.encoder.dim, context.sources.get(cls.anchor)
        codebook = anchor.quantizer.codebook if cfg.shared_codebook and anchor is not None else None
        return cls(
            layers=list(cfg.layers),
            normalisations=[HiddenNormalisation(dim, cfg.normalisation, cfg.statistics_momentum) for _ in cfg.layers],
            quantizers=[context.quantizer(dim, seed=cfg.seed + index, codebook=codebook) for index in range(len(cfg.layers))],
            score_scale=cfg.score_scale,
            temperature=cfg.temperature,
            straight_through=cfg.straight_through,
            target_grad_scale=cfg.target_grad_scale,
            target_dropout=cfg.target_dropout,
            diversity_weight=cfg.diversity_weight,
            shares_head_with=cls.anchor if cfg.shared_head and anchor is not None else None,
        )

    @property
    def needs_gradient(self) -> bool:
        return self.target_grad_scale != 0

    def fingerprint(self) -> str:
        """Of projections, codebooks and layers; the hidden states themselves change with training."""
        parts = zip(self.quantizers, self.hidden_layers, self.normalisations)
        return " ".join(quantizer.fingerprint(f"layer {layer} {norm.mode}") for quantizer, layer, norm in parts)

    def forward(self, inputs: TargetInputs) -> SoftCodes:
        hidden = [inputs.hidden[layer] for layer in self.hidden_layers]
        with batch_statistics(self.normalisations, lambda index: inputs.valid(hidden[index].detach())):
            units = [self._unit(inputs, *part) for part in zip(hidden, self.normalisations, self.quantizers)]
        assert inputs.keys is not None
        rows, columns = inputs.frames()
        num_columns = sum(quantizer.num_codebooks for quantizer in self.quantizers)
        return SoftCodes(
            units=units,
            codebooks=[quantizer.codebook for quantizer in self.quantizers],
            offsets=to_device(gumbel_offsets(inputs.keys.cpu()[rows], columns, num_columns), units[0].device),
            score_scale=self.score_scale,
            temperature=self.temperature,
            straight_through=self.straight_through,
        )

    def _unit(self, inputs, hidden, normalisation, quantizer) -> Tensor:
        """Unit vectors of one layer in the space of the codes: (M, N, D)."""
        selected = ScaleGradient.apply(inputs.gather(hidden), self.target_grad_scale)
        return quantizer.project(normalisation(selected))


def _check(cfg: OwnLayerConfig, num_layers: int) -> None:
    wrong = [layer for layer in cfg.layers if not 1 <= layer <= num_layers]
    if wrong or not cfg.layers:
        raise UserError(
            f"`model.targets.own_layer.layers` is {list(cfg.layers)}; name layers from 1 to {num_layers} "
            "(the paper's k is about 0.7 of them)"
        )
    if cfg.diversity_weight and not cfg.target_grad_scale:
        raise UserError(
            "`model.targets.own_layer.diversity_weight` acts through the labels' gradient, which `target_grad_scale: 0` "
            "takes away: set one of them to 0 and the other not"
        )
    check_share("own_layer.statistics_momentum", cfg.statistics_momentum)
