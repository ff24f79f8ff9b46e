"""Architectures by name: what the recipes in examples/ of that size have in common, whatever the method.

    debug          2 small layers, to see that an installation works
    mboshi_small   3 layers of 96 dimensions, for two CPU cores
    c1, c2, c3     BiRQ (arXiv 2509.15430): 5, 10 and 10 layers
    base12         12 layers of 512 dimensions: the recipes `librispeech_base` of BEST-RQ, HuBERT and relabelling
    base           17 layers of 512 dimensions with relative positions: Latent-RQ (PMLR 312:78-93, 2026)

A YAML names one in `model.arch` and changes it in `model.config_overrides`; the targets are always there.
"""

from fairseq_birq.config import BirqConfig
from fairseq_birq.settings import from_dict

_ENCODERS = {
    "debug": dict(num_layers=2, dim=32, ffn_dim=64, num_heads=2, conv_kernel=7),
    "mboshi_small": dict(num_layers=3, dim=96, ffn_dim=384, num_heads=4, conv_kernel=15, dropout=0.0, attention_dropout=0.0),
    "c1": dict(num_layers=5, dim=1024, ffn_dim=4096, num_heads=16),
    "c2": dict(num_layers=10, dim=768, ffn_dim=3456, num_heads=12),
    "c3": dict(num_layers=10, dim=1024, ffn_dim=4608, num_heads=16, attention_window=100),
    "base12": dict(num_layers=12, dim=512, ffn_dim=2048, num_heads=8),
    "base": dict(num_layers=17, dim=512, ffn_dim=2048, num_heads=8, positions="relative"),
}
_COMMON = dict(name="conformer", conv_kernel=31, dropout=0.1, attention_dropout=0.1)
_MASKS = {"mboshi_small": dict(span_ms=80.0, start_prob=0.083), "base": dict(start_prob=0.0127)}
_QUANTIZERS = {
    "debug": dict(codebook_size=64, codebook_dim=8, num_codebooks=2),
    "mboshi_small": dict(codebook_size=256, num_codebooks=4),
    "base": dict(codebook_size=4096, num_codebooks=18),
}
NAMES = tuple(_ENCODERS)


def encoder_settings(name: str) -> dict:
    """`model.encoder` of an architecture, as plain values."""
    return {**_COMMON, **_ENCODERS[name]}


def architecture(name: str) -> BirqConfig:
    """Settings of the pre-training model; BEST-RQ's targets, unless a recipe has others."""
    parts = {"encoder": encoder_settings(name), "mask": _MASKS.get(name, {}), "quantizer": _QUANTIZERS.get(name, {})}
    return from_dict(BirqConfig, parts)
