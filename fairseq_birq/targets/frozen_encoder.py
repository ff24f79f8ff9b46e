"""Targets from an encoder that is not trained: a copy of the trained one, or one from a checkpoint."""

from typing import List, Sequence, Tuple

import torch
from torch import Tensor, nn

from fairseq_birq.encoders.conformer import MaskedBatchNorm
from fairseq_birq.objective.quantizer import RandomProjectionQuantizer
from fairseq_birq.targets.base import TargetInputs, TargetSource
from fairseq_birq.targets.normalisation import HiddenNormalisation


class FrozenEncoder(nn.Module):
    """The frontend and the first layers of a speech encoder: no gradient, always in eval mode, on unmasked input.

    Args:
        speech_encoder: a `SpeechEncoder` to be taken over; layers above `num_layers` are dropped from it.
        num_layers: the deepest layer that targets are taken from.
        shares_features: the trained encoder's features are this one's too: log-Mel of the same settings.
    """

    def __init__(self, speech_encoder: nn.Module, num_layers: int, shares_features: bool):
        super().__init__()
        self.frontend, self.encoder = speech_encoder.frontend, speech_encoder.encoder
        self.encoder.layers = self.encoder.layers[:num_layers]
        self.num_layers, self.shares_features = num_layers, shares_features
        self.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True):
        return super().train(False)

    @torch.no_grad()
    def forward(self, inputs: TargetInputs) -> List[Tensor]:
        """(B, T, d) each: what enters the first layer, then the outputs of layers 1 to `num_layers`."""
        features = inputs.features
        if not self.shares_features:
            features = self.frontend.features(inputs.waveform, inputs.padding_mask)
        hidden, _ = self.frontend.subsample(features)
        return [hidden, *self.encoder.run_layers(hidden, inputs.frame_padding_mask, stop=self.num_layers)]

    def copy(self, speech_encoder: nn.Module) -> None:
        """Become a copy of the first layers of another speech encoder, with the processes' mean running statistics."""
        state = speech_encoder.state_dict()
        self.load_state_dict({key: state[key] for key in self.state_dict()})
        self._join_running_statistics()

    @torch.no_grad()
    def average(self, speech_encoder: nn.Module, decay: float) -> None:
        """Parameters become `decay * own + (1 - decay) * the other's`; buffers are copied, as in `copy`."""
        parameters, buffers = dict(speech_encoder.named_parameters()), dict(speech_encoder.named_buffers())
        for name, own in self.named_parameters():
            own.lerp_(parameters[name].to(own.dtype), 1.0 - decay)
        for name, own in self.named_buffers():
            own.copy_(buffers[name])
        self._join_running_statistics()

    def _join_running_statistics(self) -> None:
        """A batch normalisation's are of one process's batches, but labels must not depend on the process."""
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return
        for module in self.modules():
            if isinstance(module, MaskedBatchNorm):
                for buffer in module.buffers():
                    mean = buffer.float() / torch.distributed.get_world_size()
                    torch.distributed.all_reduce(mean)
                    buffer.copy_(mean)


class FrozenEncoderTargets(TargetSource):
    """Hard codes of several layers, `argmin_v || c_v - A h_k(x) ||^2` (Latent-RQ, PMLR 312:78-93, 2026, section 3).

    The N label columns are shared out evenly over the layers, layer by layer; head n predicts column n. Layers are
    counted as everywhere here: k = 1 is the output of the first layer and 0 is what enters it. Latent-RQ counts from
    zero: its layers 5-10 are 6-11 here, and its -1 is 0.

    Args:
        encoder: gives the hidden states.
        layers: k.
        normalisations: one per layer.
        quantizers: one per layer, over d dimensions, with N / len(layers) codebooks each.
    """

    def __init__(
        self,
        encoder: FrozenEncoder,
        layers: Sequence[int],
        normalisations: Sequence[HiddenNormalisation],
        quantizers: Sequence[RandomProjectionQuantizer],
    ):
        super().__init__()
        self.encoder = encoder
        self.layers = tuple(layers)
        self.normalisations = nn.ModuleList(normalisations)
        self.quantizers = nn.ModuleList(quantizers)

    @property
    def columns(self) -> Tuple[str, ...]:
        parts = zip(self.layers, self.quantizers)
        return tuple(f"layer{layer}" for layer, quantizer in parts for _ in range(quantizer.num_codebooks))

    def fingerprint(self) -> str:
        """Of projections, codebooks and layers; the encoder changes with training."""
        parts = zip(self.quantizers, self.layers, self.normalisations)
        return " ".join(quantizer.fingerprint(f"layer {layer} {norm.mode}") for quantizer, layer, norm in parts)

    @torch.no_grad()
    def forward(self, inputs: TargetInputs) -> Tensor:
        hidden = self.encoder(inputs)
        parts = zip(self.layers, self.normalisations, self.quantizers)
        return torch.cat([self._codes(inputs, hidden[layer], *part) for layer, *part in parts], dim=1)

    def _codes(self, inputs, hidden, normalisation, quantizer) -> Tensor:
        return quantizer.nearest(normalisation.of_batch(inputs.gather(hidden), hidden[~inputs.frame_padding_mask]))
