"""Builders: configuration in, modules with plain keyword arguments out. Nothing past this file reads a config."""

from torch import nn

from fairseq_birq.encoders import ENCODERS
from fairseq_birq.encoders.speech_encoder import SpeechEncoder
from fairseq_birq.errors import UserError
from fairseq_birq.frontends import FRONTENDS
from fairseq_birq.frontends.logmel import LogMel
from fairseq_birq.masking import SpanMasker
from fairseq_birq.quantizer import RandomProjectionQuantizer
from fairseq_birq.targets import TARGETS
from fairseq_birq.targets.normalisation import HiddenNormalisation


def build_speech_encoder(frontend_cfg, encoder_cfg) -> SpeechEncoder:
    """Raises UserError where sizes do not fit together."""
    if encoder_cfg.dim % encoder_cfg.num_heads:
        raise UserError(
            f"`model.encoder.num_heads` ({encoder_cfg.num_heads}) must divide `model.encoder.dim` ({encoder_cfg.dim})"
        )
    return SpeechEncoder(_build_frontend(frontend_cfg, encoder_cfg.dim), _build_encoder(encoder_cfg))


def _build_frontend(cfg, dim) -> nn.Module:
    shared = dict(dim=dim, dropout=cfg.dropout, sample_rate=cfg.sample_rate)
    if cfg.name == "logmel":
        return FRONTENDS["logmel"](
            subsampling=str(cfg.subsampling), feature_norm=str(cfg.feature_norm), **_log_mel_settings(cfg), **shared
        )
    return FRONTENDS["waveform"](
        waveform_dim=cfg.waveform_dim,
        kernels=list(cfg.waveform_kernels),
        strides=list(cfg.waveform_strides),
        **shared,
    )


def _log_mel_settings(cfg) -> dict:
    return dict(num_mels=cfg.num_mels, window_ms=cfg.window_ms, hop_ms=cfg.hop_ms)


def _build_encoder(cfg) -> nn.Module:
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
    return ENCODERS[str(cfg.name)](**shared)


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


def build_targets(cfg, frontend) -> nn.ModuleDict:
    """The target sources of a `BirqConfig`, in the order of `model.targets.use`."""
    unknown = [name for name in cfg.targets.use if name not in TARGETS]
    if unknown or not cfg.targets.use:
        raise UserError(f"`model.targets.use` is {list(cfg.targets.use)}; known target sources are {sorted(TARGETS)}")
    targets = nn.ModuleDict()
    for name in sorted(cfg.targets.use, key=list(TARGETS).index):  # the anchor first: others may share its codebook
        targets[name] = _TARGET_BUILDERS[name](cfg, frontend, targets)
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
    )


_TARGET_BUILDERS = {"raw_input": _build_raw_input, "own_layer": _build_own_layer}


def head_of(cfg, name: str) -> str:
    """The name of the prediction head that a source uses: its own, or the anchor's where they share one."""
    shares = name == "own_layer" and cfg.targets.own_layer.shared_head and "raw_input" in cfg.targets.use
    return "raw_input" if shares else name


def build_quantizer(cfg, input_dim, block_mb, seed=None, codebook=None) -> RandomProjectionQuantizer:
    return RandomProjectionQuantizer(
        input_dim=input_dim,
        codebook_size=cfg.codebook_size,
        codebook_dim=cfg.codebook_dim,
        num_codebooks=cfg.num_codebooks,
        seed=cfg.seed if seed is None else seed,
        block_bytes=int(block_mb * (1 << 20) / 2),
        codebook=codebook,
    )
