"""Builders: configuration in, modules with plain keyword arguments out. Nothing past this file reads a config."""

from typing import Optional

import torch
from omegaconf import OmegaConf
from torch import nn

from fairseq_birq.data.frame_labels import FrameGrid
from fairseq_birq.encoders import ENCODERS
from fairseq_birq.encoders.speech_encoder import SpeechEncoder
from fairseq_birq.errors import UserError
from fairseq_birq.frontends import FRONTENDS
from fairseq_birq.frontends.logmel import LogMel
from fairseq_birq.objective.masking import SpanMasker
from fairseq_birq.objective.quantizer import RandomProjectionQuantizer
from fairseq_birq.targets import TARGETS
from fairseq_birq.targets.frozen_encoder import FrozenEncoder
from fairseq_birq.targets.moving_average import AveragedEncoder
from fairseq_birq.targets.normalisation import HiddenNormalisation
from fairseq_birq.targets.snapshot import checked_target_updates


def build_speech_encoder(frontend_cfg, encoder_cfg) -> SpeechEncoder:
    """Raises UserError where sizes do not fit together."""
    if encoder_cfg.dim % encoder_cfg.num_heads:
        raise UserError(
            f"`model.encoder.num_heads` ({encoder_cfg.num_heads}) must divide `model.encoder.dim` ({encoder_cfg.dim})"
        )
    frontend = build_frontend(frontend_cfg, encoder_cfg.dim)
    return SpeechEncoder(frontend, ENCODERS[str(encoder_cfg.name)](**_encoder_settings(encoder_cfg)))


def build_frontend(cfg, dim) -> nn.Module:
    """A frontend whose frames have `dim` dimensions when they enter the encoder."""
    return FRONTENDS[str(cfg.name)](**_frontend_settings(cfg, dim))


def _frontend_settings(cfg, dim) -> dict:
    shared = dict(dim=dim, dropout=cfg.dropout, sample_rate=cfg.sample_rate)
    if cfg.name == "logmel":
        return dict(subsampling=str(cfg.subsampling), feature_norm=str(cfg.feature_norm), **_log_mel_settings(cfg), **shared)
    return dict(waveform_dim=cfg.waveform_dim, kernels=list(cfg.waveform_kernels), strides=list(cfg.waveform_strides), **shared)


def _log_mel_settings(cfg) -> dict:
    return dict(num_mels=cfg.num_mels, window_ms=cfg.window_ms, hop_ms=cfg.hop_ms)


def _encoder_settings(cfg) -> dict:
    shared = dict(
        num_layers=cfg.num_layers,
        dim=cfg.dim,
        ffn_dim=cfg.ffn_dim,
        num_heads=cfg.num_heads,
        dropout=cfg.dropout,
        attention_dropout=cfg.attention_dropout,
        activation_dropout=cfg.activation_dropout,
        layer_dropout=cfg.layer_dropout,
        checkpoint_activations=cfg.checkpoint_activations,
    )
    if cfg.name == "conformer":
        shared.update(
            conv_kernel=cfg.conv_kernel,
            conv_norm=str(cfg.conv_norm),
            positions=str(cfg.positions),
            attention_window=cfg.attention_window,
        )
    elif cfg.attention_window:
        raise UserError("`model.encoder.attention_window` works with `model.encoder.name: conformer` only")
    return shared


def build_masker(mask_cfg, frontend) -> SpanMasker:
    """A masker for features of `frontend`. Raises UserError for a probability outside [0, 1)."""
    if not 0 <= mask_cfg.start_prob < 1:
        raise UserError(f"`model.mask.start_prob` must be in [0, 1), but is {mask_cfg.start_prob}")
    return SpanMasker(
        feature_dim=frontend.feature_dim,
        step_ms=frontend.step_samples * 1000.0 / frontend.sample_rate,
        frames_per_step=frontend.frames_per_step,
        span_ms=mask_cfg.span_ms,
        start_prob=mask_cfg.start_prob,
        fill=str(mask_cfg.fill),
        noise_std=mask_cfg.noise_std,
    )


def build_targets(cfg, frontend, pretrained=None) -> nn.ModuleDict:
    """The target sources of a `BirqConfig`, in the order of the registry.

    Args:
        frontend: the trained encoder's.
        pretrained: settings and weights of another speech encoder, which becomes the first snapshot.

    Raises:
        UserError: settings that cannot be.
    """
    unknown = [name for name in cfg.targets.use if name not in TARGETS]
    if unknown or not cfg.targets.use:
        raise UserError(f"`model.targets.use` is {list(cfg.targets.use)}; known target sources are {sorted(TARGETS)}")
    if pretrained and "snapshot" not in cfg.targets.use:
        raise UserError("`model.target_encoder_path` needs `snapshot` among `model.targets.use`")
    targets = nn.ModuleDict()
    for name in sorted(cfg.targets.use, key=list(TARGETS).index):  # the anchor first: others may share its codebook
        extra = {"pretrained": pretrained} if name == "snapshot" else {}
        targets[name] = _TARGET_BUILDERS[name](cfg, frontend, targets, **extra)
    return targets


def _build_raw_input(cfg, frontend, targets):
    norm = str(cfg.targets.raw_input.quantizer_norm)
    hop_samples = cfg.frontend.hop_ms * cfg.frontend.sample_rate / 1000.0
    num_stacked = round(frontend.step_samples / hop_samples)
    return TARGETS["raw_input"](
        quantizer=build_quantizer(cfg.quantizer, num_stacked * cfg.frontend.num_mels, cfg.block_mb),
        log_mel=LogMel(sample_rate=cfg.frontend.sample_rate, **_log_mel_settings(cfg.frontend)),
        num_stacked=num_stacked,
        quantizer_norm=norm,
        features_are_inputs=cfg.frontend.name == "logmel"
        and norm.startswith("utterance") == (cfg.frontend.feature_norm == "utterance"),
    )


def _build_own_layer(cfg, frontend, targets):
    own, dim = cfg.targets.own_layer, cfg.encoder.dim
    wrong = [layer for layer in own.layers if not 1 <= layer <= cfg.encoder.num_layers]
    if wrong or not own.layers:
        raise UserError(
            f"`model.targets.own_layer.layers` is {list(own.layers)}; name layers from 1 to {cfg.encoder.num_layers} "
            "(the paper's k is about 0.7 of them)"
        )
    if own.diversity_weight and not own.target_grad_scale:
        raise UserError(
            "`model.targets.own_layer.diversity_weight` acts through the labels' gradient, which `target_grad_scale: 0` "
            "takes away: set one of them to 0 and the other not"
        )
    _check_share("own_layer.statistics_momentum", own.statistics_momentum)
    anchor = targets["raw_input"].quantizer.codebook if own.shared_codebook and "raw_input" in targets else None
    return TARGETS["own_layer"](
        layers=list(own.layers),
        normalisations=[HiddenNormalisation(dim, str(own.normalisation), own.statistics_momentum) for _ in own.layers],
        quantizers=[
            build_quantizer(cfg.quantizer, dim, cfg.block_mb, seed=own.seed + index, codebook=anchor)
            for index in range(len(own.layers))
        ],
        score_scale=own.score_scale,
        temperature=own.temperature,
        straight_through=own.straight_through,
        target_grad_scale=own.target_grad_scale,
        target_dropout=own.target_dropout,
        diversity_weight=own.diversity_weight,
    )


def _build_snapshot(cfg, frontend, targets, pretrained=None):
    own = cfg.targets.snapshot
    updates = checked_target_updates(own.target_updates, "model.targets.snapshot.target_updates")
    if not updates and not pretrained:
        raise UserError(
            "the snapshot would never be taken: name updates in `model.targets.snapshot.target_updates`, or a checkpoint "
            "in `model.target_encoder_path`"
        )
    if updates and pretrained and not _same_architecture(cfg, pretrained[0]):
        raise UserError(
            "the encoder in `model.target_encoder_path` has other `frontend` or `encoder` settings than this run's, so "
            "that no copy of this run's can take its place: leave `model.targets.snapshot.target_updates` empty"
        )
    if own.statistics_batches < 1:
        raise UserError(f"`model.targets.snapshot.statistics_batches` must be at least 1, but is {own.statistics_batches}")
    return TARGETS["snapshot"](
        **_frozen_encoder_settings(
            cfg, frontend, "snapshot", FrozenEncoder, pretrained, momentum=0.0, max_batches=own.statistics_batches
        ),
        target_updates=updates,
        raw_input=None if "raw_input" in targets else _build_raw_input(cfg, frontend, targets),
        stage=1 if pretrained else 0,
        reset_heads=own.reset_heads,
        reset_optimizer=own.reset_optimizer,
        encoder_settings=pretrained and _plain_encoder_settings(pretrained[0]),
    )


def _plain_encoder_settings(settings) -> dict:
    parts = {key: settings[key] for key in ("frontend", "encoder")}
    return OmegaConf.to_container(OmegaConf.create(parts), resolve=True, enum_to_str=True)


def _build_moving_average(cfg, frontend, targets):
    own = cfg.targets.moving_average
    for key in ("decay_start", "decay_end"):
        _check_share(f"moving_average.{key}", own[key])
    _check_share("moving_average.statistics_momentum", own.statistics_momentum)
    return TARGETS["moving_average"](
        **_frozen_encoder_settings(cfg, frontend, "moving_average", AveragedEncoder, momentum=own.statistics_momentum),
        decay_start=own.decay_start,
        decay_end=own.decay_end,
        decay_warmup_updates=own.decay_warmup_updates,
    )


def _frozen_encoder_settings(cfg, frontend, name, encoder_class, pretrained=None, **statistics) -> dict:
    """What `FrozenEncoderTargets` are made of. The trained encoder's weights stay those of a run without them."""
    own, (settings, state) = cfg.targets[name], pretrained or (cfg, None)
    layers, num_codebooks = list(own.layers), cfg.quantizer.num_codebooks
    _check_frozen_layers(name, layers, settings.encoder.num_layers, num_codebooks)
    with torch.random.fork_rng(devices=[]):
        speech_encoder = build_speech_encoder(settings.frontend, settings.encoder)
    if state is not None:
        speech_encoder.load_state_dict(state)
    _check_same_frames(frontend, speech_encoder.frontend)
    dim = settings.encoder.dim
    return dict(
        encoder=encoder_class(speech_encoder, max(layers), shares_features=_same_log_mel(cfg.frontend, settings.frontend)),
        layers=layers,
        normalisations=[HiddenNormalisation(dim, str(own.normalisation), **statistics) for _ in layers],
        quantizers=[
            build_quantizer(cfg.quantizer, dim, cfg.block_mb, seed=[own.seed, layer], num_codebooks=num_codebooks // len(layers))
            for layer in layers
        ],
    )


def _check_share(key, value):
    if not 0.0 <= value <= 1.0:
        raise UserError(f"`model.targets.{key}` must be from 0 to 1, but is {value:g}")


def _check_frozen_layers(name, layers, num_layers, num_codebooks):
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
    return ours.name == "logmel" and all(ours[key] == other[key] for key in keys)


def _same_architecture(ours, other) -> bool:
    """Whether frontend and encoder differ at most in what only training knows."""
    training = ("dropout", "attention_dropout", "activation_dropout", "layer_dropout", "checkpoint_activations")

    def settings(cfg):
        parts = [_frontend_settings(cfg.frontend, cfg.encoder.dim), _encoder_settings(cfg.encoder)]
        plain = [{key: value for key, value in part.items() if key not in training} for part in parts]
        return [str(cfg.frontend.name), str(cfg.encoder.name), *plain]

    return settings(ours) == settings(other)


def _build_label_file(cfg, frontend, targets):
    path, quantizer = cfg.targets.label_file.path, cfg.quantizer
    if not path:
        raise UserError("`model.targets.label_file.path` is not set: name the folder of the labels that birq-labels made")
    return TARGETS["label_file"](path, FrameGrid.of(frontend), quantizer.num_codebooks, quantizer.codebook_size)


_TARGET_BUILDERS = {
    "raw_input": _build_raw_input,
    "own_layer": _build_own_layer,
    "snapshot": _build_snapshot,
    "moving_average": _build_moving_average,
    "label_file": _build_label_file,
}


def head_of(cfg, name: str) -> str:
    """The name of the prediction head that a source uses: its own, or the anchor's where they share one."""
    shares = name == "own_layer" and cfg.targets.own_layer.shared_head and "raw_input" in cfg.targets.use
    return "raw_input" if shares else name


def build_quantizer(
    cfg, input_dim, block_mb, seed=None, codebook=None, num_codebooks: Optional[int] = None
) -> RandomProjectionQuantizer:
    """A quantizer of `input_dim` dimensions; `seed` and `num_codebooks` are the configuration's unless they are given."""
    return RandomProjectionQuantizer(
        input_dim=input_dim,
        codebook_size=cfg.codebook_size,
        codebook_dim=cfg.codebook_dim,
        num_codebooks=num_codebooks or cfg.num_codebooks,
        seed=cfg.seed if seed is None else seed,
        block_bytes=int(block_mb * (1 << 20) / 2),
        codebook=codebook,
    )
