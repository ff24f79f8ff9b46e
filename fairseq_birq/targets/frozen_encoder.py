"""Targets from an encoder that is not trained: a copy of the trained one, or one from a checkpoint."""

from typing import Any, List, Sequence, Tuple

import torch
from torch import Tensor, nn

from fairseq_birq.builders import build_speech_encoder
from fairseq_birq.encoders.base import Encoder
from fairseq_birq.encoders.speech_encoder import SpeechEncoder
from fairseq_birq.errors import UserError
from fairseq_birq.objective.quantizer import RandomProjectionQuantizer
from fairseq_birq.targets.base import TargetContext, TargetInputs, TargetSource
from fairseq_birq.targets.normalisation import HiddenNormalisation, batch_statistics


class FrozenEncoder(nn.Module):
    """The frontend and the first layers of a speech encoder: no gradient, always in eval mode, on unmasked input.

    Args:
        speech_encoder: a `SpeechEncoder` to be taken over, with the layers that it has (see `Encoder.keep_layers`).
        shares_features: the trained encoder's features are this one's too: log-Mel of the same settings.
    """

    frontend: Any
    encoder: Encoder

    def __init__(self, speech_encoder: SpeechEncoder, shares_features: bool):
        super().__init__()
        self.frontend, self.encoder = speech_encoder.frontend, speech_encoder.encoder
        self.num_layers, self.shares_features = len(self.encoder.layers), shares_features
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
        return [hidden, *self.encoder.run_layers(hidden, inputs.padding_or_none, stop=self.num_layers)]

    def copy(self, speech_encoder: nn.Module) -> None:
        """Become a copy of the first layers of another speech encoder."""
        state = speech_encoder.state_dict()
        self.load_state_dict({key: state[key] for key in self.state_dict()})

    @torch.no_grad()
    def average(self, speech_encoder: nn.Module, decay: float) -> None:
        """Parameters become `decay * own + (1 - decay) * the other's`; buffers are copied."""
        parameters, buffers = dict(speech_encoder.named_parameters()), dict(speech_encoder.named_buffers())
        owns = dict(self.named_parameters())
        if owns:
            news = [parameters[name].to(own.dtype) for name, own in owns.items()]
            torch._foreach_lerp_(list(owns.values()), news, 1.0 - decay)
        for name, buffer in self.named_buffers():
            buffer.copy_(buffers[name])


class FrozenEncoderTargets(TargetSource):
    """Hard codes of several layers, `argmin_v || c_v - norm(A h_k(x)) ||^2` (Latent-RQ, PMLR 312:78-93, 2026, section 3).

    The N label columns are shared out evenly over the layers, layer by layer; head n predicts column n. Layers are
    counted as everywhere here: k = 1 is the output of the first layer and 0 is what enters it. Latent-RQ counts from
    zero: its layers 5-10 are 6-11 here, and its -1 is 0.

    Args:
        encoder: gives the hidden states.
        layers: k.
        normalisations: one per layer.
        quantizers: one per layer, over d dimensions, with N / len(layers) codebooks each.
    """

    encoder: FrozenEncoder
    normalisations: Sequence[HiddenNormalisation]
    quantizers: Sequence[RandomProjectionQuantizer]

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
        self.normalisations = nn.ModuleList(normalisations)  # type: ignore[assignment]
        self.quantizers = nn.ModuleList(quantizers)  # type: ignore[assignment]
        self.codebook_size = quantizers[0].codebook_size

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
        with batch_statistics(self.normalisations, lambda index: inputs.valid(hidden[self.layers[index]])):
            parts = zip(self.layers, self.normalisations, self.quantizers)
            codes = [quantizer.nearest(norm(inputs.gather(hidden[layer]))) for layer, norm, quantizer in parts]
        return torch.cat(codes, dim=1)


def frozen_parts(cfg, name: str, context: TargetContext, encoder_class=FrozenEncoder, **statistics) -> dict:
    """What `FrozenEncoderTargets` are made of. The trained encoder's weights stay those of a run without them.

    cfg: with `layers`, `normalisation` and `seed`; name: of the source
    statistics: of `HiddenNormalisation`

    Raises:
        UserError: layers that are not there, or N codebooks that they cannot share evenly.
    """
    settings, state = context.target_encoder or (context.cfg, None)
    layers, num_codebooks, dim = list(cfg.layers), context.cfg.quantizer.num_codebooks, settings.encoder.dim
    _check_layers(name, layers, settings.encoder.num_layers, num_codebooks)
    with torch.random.fork_rng(devices=[]):
        speech_encoder = build_speech_encoder(settings.frontend, settings.encoder)
    if state is not None:
        speech_encoder.load_state_dict(state)
    _check_same_frames(context.frontend, speech_encoder.frontend)
    speech_encoder.encoder.keep_layers(max(layers))
    share = num_codebooks // len(layers)
    return dict(
        encoder=encoder_class(speech_encoder, shares_features=_same_log_mel(context.cfg.frontend, settings.frontend)),
        layers=layers,
        normalisations=[HiddenNormalisation(dim, cfg.normalisation, **statistics) for _ in layers],
        quantizers=[context.quantizer(dim, seed=[cfg.seed, layer], num_codebooks=share) for layer in layers],
    )


def _check_layers(name, layers, num_layers, num_codebooks):
    key = f"model.targets.{name}.layers"
    if not layers or len(set(layers)) < len(layers) or not all(0 <= layer <= num_layers for layer in layers):
        raise UserError(f"`{key}` is {layers}; name different layers from 1 to {num_layers}, or 0 for what enters the first")
    if num_codebooks % len(layers):
        raise UserError(
            f"`model.quantizer.num_codebooks` ({num_codebooks}) cannot be shared out evenly over the {len(layers)} layers "
            f"of `{key}`: make it a multiple of {len(layers)}"
        )


def _check_same_frames(ours, other):
    samples = torch.arange(ours.sample_rate)
    if ours.sample_rate != other.sample_rate or not torch.equal(ours.output_length(samples), other.output_length(samples)):
        raise UserError(
            "the encoder in `model.target_encoder_path` has other frames than `model.frontend`, so that its codes fit "
            "none of them: choose a checkpoint of the same sample rate, windows and hops"
        )


def _same_log_mel(ours, other) -> bool:
    keys = ("name", "sample_rate", "num_mels", "window_ms", "hop_ms", "feature_norm")
    return ours.name == "logmel" and all(getattr(ours, key) == getattr(other, key) for key in keys)
