"""The waveform encoder (wav2vec 2.0's CNN and Transformer) as a Hugging Face `HubertModel`, which has the same layers.

Its `hidden_states[0]` is the sum of projected features and positions, `hidden_states[k]` our layer k.
"""

from typing import Dict

from torch import Tensor

_LAYER = {
    "self_attn.q_proj": "attention.q_proj",
    "self_attn.k_proj": "attention.k_proj",
    "self_attn.v_proj": "attention.v_proj",
    "self_attn.out_proj": "attention.out_proj",
    "self_attn_layer_norm": "layer_norm",
    "fc1": "feed_forward.intermediate_dense",
    "fc2": "feed_forward.output_dense",
    "final_layer_norm": "final_layer_norm",
}
_POSITIONS = "encoder.pos_conv_embed.conv"


def hubert_tensors(encoder, cfg) -> Dict[str, Tensor]:
    """The weights by HubertModel's names. encoder: `SpeechEncoder`; cfg: the checkpoint's model settings."""
    tensors = dict(_renamed(encoder.state_dict()))
    tensors["masked_spec_embed"] = encoder.frontend.projection.weight.new_zeros(cfg.encoder.dim)  # there, but not in ours
    return tensors


def hubert_config(encoder, cfg) -> dict:
    """The content of `config.json`."""
    frontend, layers = encoder.frontend, cfg.encoder
    return dict(
        architectures=["HubertModel"],
        model_type="hubert",
        hidden_size=layers.dim,
        intermediate_size=layers.ffn_dim,
        num_hidden_layers=layers.num_layers,
        num_attention_heads=layers.num_heads,
        hidden_act="gelu",
        layer_norm_eps=1e-5,
        do_stable_layer_norm=True,
        feat_extract_norm="layer",
        feat_extract_activation="gelu",
        feat_proj_layer_norm=True,
        conv_bias=False,
        conv_dim=[frontend.feature_dim] * len(frontend.kernels),
        conv_kernel=list(frontend.kernels),
        conv_stride=list(frontend.strides),
        num_feat_extract_layers=len(frontend.kernels),
        num_conv_pos_embeddings=encoder.encoder.position_conv[0].kernel_size[0],
        num_conv_pos_embedding_groups=encoder.encoder.position_conv[0].groups,
        hidden_dropout=layers.dropout,
        attention_dropout=layers.attention_dropout,
        activation_dropout=layers.activation_dropout,
        feat_proj_dropout=cfg.frontend.dropout,
        layerdrop=layers.layer_dropout,
        apply_spec_augment=False,
        torch_dtype="float32",
    )


def _renamed(state):
    """Ours -> HubertModel's, one (name, tensor) after the other."""
    for name, tensor in state.items():
        part, *rest = name.split(".")
        if part == "frontend":
            yield _frontend_name(rest), tensor
        elif rest[0] == "position_conv":
            yield f"{_POSITIONS}.{_weight_norm_name(rest[2:])}", tensor
        elif rest[0] == "final_norm":
            yield f"encoder.layer_norm.{rest[1]}", tensor
        else:  # layers.<i>.layer.<module>.<parameter>
            module, parameter = ".".join(rest[3:-1]), rest[-1]
            yield f"encoder.layers.{rest[1]}.{_LAYER[module]}.{parameter}", tensor


def _frontend_name(rest) -> str:
    kinds = {"convolutions": "conv", "norms": "layer_norm"}
    if rest[0] in kinds:
        return f"feature_extractor.conv_layers.{rest[1]}.{kinds[rest[0]]}.{rest[2]}"
    return f"feature_projection.{ {'feature_norm': 'layer_norm', 'projection': 'projection'}[rest[0]] }.{rest[1]}"


def _weight_norm_name(rest) -> str:
    """torch's old and new names of a weight-normalised convolution -> the new ones."""
    old = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
    return old.get(rest[0], ".".join(rest))
