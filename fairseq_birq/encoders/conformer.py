"""Our Conformer (Gulati et al. 2020, arXiv 2005.08100): macaron layers whose outputs cannot depend on padding."""

from dataclasses import dataclass
from typing import NamedTuple, Optional, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairseq_birq.encoders.base import Encoder, padding_or_none
from fairseq_birq.errors import UserError
from fairseq_birq.modules.attention import SelfAttention, additive, attention_keep, relative_table
from fairseq_birq.modules.cpu import depthwise_convolution
from fairseq_birq.modules.depthwise import register_operator
from fairseq_birq.modules.layer_norm import LayerNorm
from fairseq_birq.modules.rotary import rotary_table
from fairseq_birq.modules.row_dropout import RowDropout
from fairseq_birq.settings import refuse_removed, setting
from fairseq_birq.structs import Chunks, LayerInputs


@dataclass
class ConformerConfig:
    """Settings of the Conformer alone."""

    conv_kernel: int = setting(31, "depthwise convolution, encoder frames (conformer); odd")
    conv_norm: str = setting("layer", "normalisation inside the convolution module (conformer): layer", ["layer", "batch"])
    positions: str = setting("rotary", "position information in attention (conformer)", ["rotary", "relative"])
    attention_window: int = setting(0, "frames that attention sees to each side; 0 = all (conformer)")
    causal: bool = setting(False, "convolutions see no future frame, so that the encoder can stream (conformer)")


class ConformerEncoder(Encoder):
    """A stack of Conformer layers.

    Args:
        conv_kernel: frames of the depthwise convolution, odd.
        positions: "rotary" or "relative".
        attention_window: frames that attention sees to each side; 0 = all.
        causal: convolutions see no future frame; attention then sees none after a chunk, where chunks are given.
        dropout, attention_dropout, activation_dropout, layer_dropout: as in `EncoderConfig`.
        checkpoint_activations: recompute layers in the backward pass.

    Raises:
        UserError: `conv_kernel` is even, or `num_heads` does not divide `dim`.
    """

    Config = ConformerConfig
    can_compile = True

    def __init__(
        self,
        num_layers,
        dim,
        ffn_dim,
        num_heads,
        conv_kernel=31,
        positions="rotary",
        attention_window=0,
        causal=False,
        dropout=0.1,
        attention_dropout=0.1,
        activation_dropout=0.0,
        layer_dropout=0.0,
        checkpoint_activations=False,
    ):
        super().__init__(num_layers, dim, layer_dropout, checkpoint_activations)
        self.head_dim, self.positions, self.attention_window = dim // max(1, num_heads), positions, attention_window
        self.causal = causal
        for _ in range(num_layers):
            self.layers.append(
                ConformerLayer(
                    FeedForward(dim, ffn_dim, dropout, activation_dropout),
                    SelfAttention(dim, num_heads, positions, attention_dropout),
                    ConvolutionModule(dim, conv_kernel, dropout, causal),
                    FeedForward(dim, ffn_dim, dropout, activation_dropout),
                    dim,
                    dropout,
                )
            )

    @classmethod
    def settings(cls, cfg) -> dict:
        """Keyword arguments. cfg: an `EncoderConfig`."""
        refuse_removed("model.encoder.conv_norm", cfg.conv_norm, "layer")
        own = dict(conv_kernel=cfg.conv_kernel, positions=cfg.positions, attention_window=cfg.attention_window)
        return {**super().settings(cfg), **own, "causal": cfg.causal}

    def compile_layers(self) -> None:
        """See `Encoder.compile_layers`."""
        super().compile_layers()
        register_operator()
        for layer in self.layers:
            layer.convolution.as_operator = True  # type: ignore[union-attr]

    def check_streams(self) -> None:
        """See `Encoder.check_streams`."""
        if not self.causal:
            raise UserError(
                "the encoder's convolutions see the future, so that it computes neither in chunks nor in a stream: pre-train it "
                "with `model.encoder.causal: true`"
            )

    def prepare(
        self, x: Tensor, padding_mask: Optional[Tensor], start: int, clean_rows: int, chunks: Optional[Chunks] = None
    ) -> Tuple[Tensor, LayerInputs]:
        num_frames = x.shape[1]
        padding = padding_or_none(padding_mask)
        keep = attention_keep(padding, num_frames, self.attention_window, x.device, chunks, x.shape[0])
        positions: Tuple[Tensor, ...]
        if self.positions == "rotary":
            positions = rotary_table(num_frames, self.head_dim, x.device)
        else:
            positions = (relative_table(num_frames, self.dim, x.device)[0].to(x.dtype),)
        return x, LayerInputs(padding, additive(keep, x.dtype), positions, clean_rows)


class LayerPast(NamedTuple):
    """What a layer keeps of a stream."""

    keys: Tensor  # (B, P, H, head_dim)
    values: Tensor  # (B, P, H, head_dim)
    convolved: Tensor  # (B, kernel - 1, d): what went into the depthwise convolution; zeros at the beginning


class ConformerLayer(nn.Module):
    """Half a feed-forward module, attention, convolution, half a feed-forward module, layer norm (section 2.4)."""

    def __init__(self, ffn1, attention, convolution, ffn2, dim: int, dropout: float):
        super().__init__()
        self.ffn1, self.attention, self.convolution, self.ffn2 = ffn1, attention, convolution, ffn2
        self.attention_norm = LayerNorm(dim)
        self.attention_dropout = RowDropout(dropout)
        self.final_norm = LayerNorm(dim)

    def forward(self, x: Tensor, inputs: LayerInputs) -> Tensor:
        """x: (B, T, d) float -> (B, T, d)."""
        clean_rows = inputs.clean_rows
        x = self.ffn1(x, clean_rows)
        x = self.attention_dropout.added(x, self.attention(self.attention_norm(x), inputs), clean_rows)
        x = self.convolution(x, inputs.padding_mask, clean_rows)
        x = self.ffn2(x, clean_rows)
        return self.final_norm(x)

    def step(self, x: Tensor, inputs: LayerInputs, past: LayerPast) -> Tuple[Tensor, LayerPast]:
        """The same of the next T frames of a stream, without dropout. x: (B, T, d); inputs: as in `SelfAttention.step`."""
        x = self.ffn1(x, 0)
        attended, (keys, values) = self.attention.step(self.attention_norm(x), inputs, (past.keys, past.values))
        x, convolved = self.convolution.step(x + attended, past.convolved)
        return self.final_norm(self.ffn2(x, 0)), LayerPast(keys, values, convolved)


class FeedForward(nn.Module):
    """Layer norm, expansion, swish, projection, and half of that added to the input (sections 2.3 and 2.4)."""

    def __init__(self, dim: int, ffn_dim: int, dropout: float, activation_dropout: float):
        super().__init__()
        self.norm = LayerNorm(dim)
        self.expand = nn.Linear(dim, ffn_dim)
        self.project = nn.Linear(ffn_dim, dim)
        self.activation_dropout = RowDropout(activation_dropout)
        self.dropout = RowDropout(dropout)

    def forward(self, x: Tensor, clean_rows: int) -> Tensor:
        expanded = self.activation_dropout(F.silu(self.expand(self.norm(x))), clean_rows)
        return self.dropout.added(x, self.project(expanded), clean_rows, scale=0.5)


class ConvolutionModule(nn.Module):
    """Gated pointwise convolution, depthwise convolution over time, norm, swish, pointwise convolution, added to the input
    (section 2.2).

    Padded frames are zeroed before the depthwise convolution: an utterance's last frames see the zeros they see alone.
    With `causal` a frame sees only frames before it: its kernel's last column is the frame itself.
    """

    def __init__(self, dim: int, kernel: int, dropout: float, causal: bool = False):
        super().__init__()
        if kernel % 2 == 0:
            raise UserError(f"`encoder.conv_kernel` must be odd, but is {kernel}")
        self.norm = LayerNorm(dim)
        self.gate = nn.Linear(dim, 2 * dim)
        self.depthwise = nn.Conv1d(dim, dim, kernel, padding=0 if causal else kernel // 2, groups=dim)
        self.num_before = kernel - 1 if causal else 0  # zeros before the first frame
        self.depthwise_norm = LayerNorm(dim)
        self.project = nn.Linear(dim, dim)
        self.dropout = RowDropout(dropout)
        self.as_operator = False  # see `modules/depthwise.py`

    def forward(self, x: Tensor, padding_mask: Optional[Tensor], clean_rows: int) -> Tensor:
        gated = F.glu(self.gate(self.norm(x)), dim=-1)
        if padding_mask is not None:
            gated = gated.masked_fill_(padding_mask[..., None], 0.0)  # not needed for the gradient of the gate
        if self.num_before:
            gated = F.pad(gated, (0, 0, self.num_before, 0))
        convolved = F.silu(self.depthwise_norm(self._convolve(gated)))
        return self.dropout.added(x, self.project(convolved), clean_rows)

    def step(self, x: Tensor, past: Tensor) -> Tuple[Tensor, Tensor]:
        """The next T frames of a stream, without dropout.

        x: (B, T, d) float, past: (B, kernel - 1, d) -> (B, T, d), and the past of what comes after them.
        """
        gated = torch.cat([past, F.glu(self.gate(self.norm(x)), dim=-1)], dim=1)
        convolved = F.silu(self.depthwise_norm(self._convolve(gated)))
        return x + self.project(convolved), gated[:, gated.shape[1] - self.num_before :]

    def _convolve(self, x: Tensor) -> Tensor:
        weight, bias, padding = self.depthwise.weight, self.depthwise.bias, int(self.depthwise.padding[0])
        if self.as_operator:
            assert bias is not None
            return torch.ops.fairseq_birq.depthwise(x, weight.to(x.dtype), bias.to(x.dtype), padding)
        return depthwise_convolution(x, weight, bias, padding)
