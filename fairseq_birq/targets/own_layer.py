"""BiRQ's enhanced labels: soft codes of the model's own hidden states."""

from typing import Sequence

from torch import Tensor, nn

from fairseq_birq.objective.masking import gumbel_offsets
from fairseq_birq.objective.quantizer import RandomProjectionQuantizer
from fairseq_birq.objective.soft_codes import SoftCodes
from fairseq_birq.targets.base import ScaleGradient, TargetInputs, TargetSource
from fairseq_birq.targets.normalisation import HiddenNormalisation


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
    """

    name = "own_layer"

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
    ):
        super().__init__()
        self.hidden_layers = tuple(layers)
        self.normalisations = nn.ModuleList(normalisations)
        self.quantizers = nn.ModuleList(quantizers)
        self.score_scale, self.temperature = score_scale, temperature
        self.straight_through = straight_through
        self.target_grad_scale = target_grad_scale
        self.target_dropout = target_dropout
        self.diversity_weight = diversity_weight

    @property
    def needs_gradient(self) -> bool:
        return self.target_grad_scale != 0

    def fingerprint(self) -> str:
        """Of projections, codebooks and layers; the hidden states themselves change with training."""
        parts = zip(self.quantizers, self.hidden_layers, self.normalisations)
        return " ".join(quantizer.fingerprint(f"layer {layer} {norm.mode}") for quantizer, layer, norm in parts)

    def forward(self, inputs: TargetInputs) -> SoftCodes:
        parts = zip(self.hidden_layers, self.normalisations, self.quantizers)
        units = [self._unit(inputs, *part) for part in parts]
        rows, columns = inputs.frames()
        num_columns = sum(quantizer.num_codebooks for quantizer in self.quantizers)
        return SoftCodes(
            units=units,
            codebooks=[quantizer.codebook for quantizer in self.quantizers],
            offsets=gumbel_offsets(inputs.keys[rows], columns, num_columns),
            score_scale=self.score_scale,
            temperature=self.temperature,
            straight_through=self.straight_through,
        )

    def _unit(self, inputs, layer, normalisation, quantizer) -> Tensor:
        """Unit vectors of one layer in the space of the codes: (M, N, D)."""
        hidden = inputs.hidden[layer]
        selected = ScaleGradient.apply(inputs.gather(hidden), self.target_grad_scale)
        return quantizer.project(normalisation.of_batch(selected, hidden.detach()[~inputs.frame_padding_mask]))
