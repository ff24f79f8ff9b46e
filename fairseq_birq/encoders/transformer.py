"""wav2vec 2.0's Transformer, from fairseq: pre-norm layers after a convolutional positional embedding."""

import math
from dataclasses import dataclass
from typing import Tuple

import torch
from torch import Tensor, nn

from fairseq_birq.encoders.base import Encoder, padding_or_none
from fairseq_birq.errors import UserError
from fairseq_birq.modules.row_dropout import RowDropout
from fairseq_birq.modules.weight_norm import WeightNormConv1d
from fairseq_birq.structs import LayerInputs


@dataclass
class TransformerConfig:
    """The Transformer has no settings of its own."""


class TransformerEncoder(Encoder):
    """fairseq's layers (Baevski et al. 2020, arXiv 2006.11477, section 2), run by us.

    The positional convolution (kernel 128, 16 groups) sees zeros in place of padding, and nothing is padded to a
    multiple of some length, so outputs do not depend on the batch. The final layer norm belongs to the last layer.

    Args:
        dropout, attention_dropout, activation_dropout, layer_dropout: as in `EncoderConfig`.
        checkpoint_activations: recompute layers in the backward pass.

    Raises:
        UserError: `num_heads` does not divide `dim`, or fairseq is not installed.
    """

    Config = TransformerConfig

    def __init__(
        self,
        num_layers,
        dim,
        ffn_dim,
        num_heads,
        dropout=0.1,
        attention_dropout=0.1,
        activation_dropout=0.0,
        layer_dropout=0.0,
        checkpoint_activations=False,
    ):
        super().__init__(num_layers, dim, layer_dropout, checkpoint_activations)
        if num_heads <= 0 or dim % num_heads:
            raise UserError(f"`encoder.num_heads` must divide `encoder.dim`, but {num_heads} does not divide {dim}")
        model = _fairseqs_transformer(
            dict(
                encoder_layers=num_layers,
                encoder_embed_dim=dim,
                encoder_ffn_embed_dim=ffn_dim,
                encoder_attention_heads=num_heads,
                dropout=dropout,
                attention_dropout=attention_dropout,
                activation_dropout=activation_dropout,
                layer_norm_first=True,
                conv_pos_groups=math.gcd(16, dim),
            )
        )
        self.position_conv, self.final_norm = model.pos_conv, model.layer_norm
        self.position_conv[0] = WeightNormConv1d.like(self.position_conv[0])
        self.dropout = RowDropout(dropout)
        self.layers = nn.ModuleList(_RowLayer(layer) for layer in model.layers)

    @classmethod
    def settings(cls, cfg) -> dict:
        """Keyword arguments. cfg: an `EncoderConfig`."""
        if cfg.attention_window:
            raise UserError("`model.encoder.attention_window` works with `model.encoder.name: conformer` only")
        if cfg.causal:
            raise UserError("`model.encoder.causal` works with `model.encoder.name: conformer` only")
        return super().settings(cfg)

    def prepare(self, x: Tensor, padding_mask, start: int, clean_rows: int, chunks=None) -> Tuple[Tensor, LayerInputs]:
        padding = padding_or_none(padding_mask)
        if start == 0:
            x = x if padding is None else x.masked_fill(padding[..., None], 0.0)
            x = x + self.position_conv(x.transpose(1, 2)).transpose(1, 2)
            x = self.dropout(x, clean_rows)
        return x, LayerInputs(padding, clean_rows=clean_rows)

    def apply_layer(self, index: int, x: Tensor, inputs: LayerInputs) -> Tensor:
        x = self.layers[index](x, inputs)
        return self.final_norm(x) if index == self.num_layers - 1 else x


class _RowLayer(nn.Module):
    """A fairseq layer that computes the clean rows of a batch in a second call, in eval mode."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, inputs: LayerInputs) -> Tensor:
        """x: (B, T, d) float -> (B, T, d)."""
        clean_rows = inputs.clean_rows if self.training else 0
        if clean_rows == 0:
            return self._call(x, inputs.padding_mask)
        num_noisy = x.shape[0] - clean_rows
        noisy, clean = x.split([num_noisy, clean_rows])
        clean = self._call_in_eval_mode(clean, inputs.last_rows(clean_rows).padding_mask)
        if num_noisy == 0:
            return clean
        padding_mask = None if inputs.padding_mask is None else inputs.padding_mask[:num_noisy]
        return torch.cat([self._call(noisy, padding_mask), clean])

    def _call_in_eval_mode(self, x: Tensor, padding_mask) -> Tensor:
        self.layer.eval()
        try:
            return self._call(x, padding_mask)
        finally:
            self.layer.train()

    def _call(self, x: Tensor, padding_mask) -> Tensor:
        if not isinstance(self.layer.self_attn.q_proj.weight, Tensor):  # quantized: torch's fused attention cannot read it
            self.layer.self_attn.skip_embed_dim_check = True
        return self.layer(x.transpose(0, 1), self_attn_padding_mask=padding_mask)[0].transpose(0, 1)


def _fairseqs_transformer(settings: dict) -> nn.Module:
    """fairseq's `TransformerEncoder`; the one import of fairseq by a method, and only where this encoder is built."""
    try:
        from fairseq.models.wav2vec import wav2vec2
    except ImportError as error:
        raise UserError(
            f"`model.encoder.name: transformer` has fairseq's layers, but fairseq cannot be imported: {error}"
        ) from None
    return wav2vec2.TransformerEncoder(wav2vec2.Wav2Vec2Config(**settings))
