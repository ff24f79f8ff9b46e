"""What every encoder is: a stack of layers that can run in part, and with some rows of the batch free of dropout."""

from dataclasses import dataclass, fields
from typing import List, Optional, Tuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fairseq_birq.errors import UserError
from fairseq_birq.modules.compiled_layers import apply_compiled
from fairseq_birq.settings import setting
from fairseq_birq.structs import Chunks, Encoded, LayerInputs


@dataclass
class SharedConfig:
    """Settings that every encoder has."""

    num_layers: int = setting(12, "K")
    dim: int = setting(512, "d, width of every layer")
    ffn_dim: int = setting(2048, "width inside the feed-forward modules")
    num_heads: int = setting(8, "attention heads; must divide dim")
    dropout: float = setting(0.1, "after every module")
    attention_dropout: float = setting(0.1, "on attention weights")
    activation_dropout: float = setting(0.0, "inside the feed-forward modules")
    layer_dropout: float = setting(0.0, "probability to skip a layer in training")
    checkpoint_activations: bool = setting(False, "recompute activations in backward: less memory, more time")


class Encoder(nn.Module):
    """Base of the encoders. A subclass fills `layers` with modules `layer(x, inputs: LayerInputs) -> x`.

    Args:
        num_layers: K.
        dim: width of every layer.
        layer_dropout: probability to skip a layer in training; one draw of torch's generator per layer and run.
        checkpoint_activations: recompute every layer in the backward pass.
    """

    Config: type  # of what it alone knows
    can_compile = False  # whether torch.compile reads its layers as a whole
    compiles = False  # see `compile_layers`

    def __init__(self, num_layers: int, dim: int, layer_dropout: float = 0.0, checkpoint_activations: bool = False):
        super().__init__()
        self.num_layers, self.dim = num_layers, dim
        self.layer_dropout, self.checkpoint_activations = layer_dropout, checkpoint_activations
        self.layers = nn.ModuleList()

    @classmethod
    def settings(cls, cfg) -> dict:
        """Keyword arguments. cfg: an `EncoderConfig`. Raises UserError for settings that this encoder has not."""
        return {one.name: getattr(cfg, one.name) for one in fields(SharedConfig)}

    def compile_layers(self) -> None:
        """Call every layer through torch.compile from now on; weights, their names and copies stay as they are.

        Raises:
            UserError: the encoder's layers cannot be compiled. What is missing on the machine is said at the first call.
        """
        if not self.can_compile:
            raise UserError("`model.compile_layers` works with `model.encoder.name: conformer` only")
        self.compiles = True

    def keep_layers(self, num_layers: int) -> None:
        """Drop the layers above; `run_layers` must stop there from now on."""
        self.layers = self.layers[:num_layers]

    def forward(
        self, x: Tensor, padding_mask: Tensor, num_layers: Optional[int] = None, chunks: Optional[Chunks] = None
    ) -> Encoded:
        """Layers 1 to `num_layers`, or all. x: (B, T, d) float, padding_mask: (B, T) bool."""
        return Encoded(self.run_layers(x, padding_mask, stop=num_layers, chunks=chunks), padding_mask, subsampled=x)

    def run_layers(
        self,
        x: Tensor,
        padding_mask: Optional[Tensor],
        start: int = 0,
        stop: Optional[int] = None,
        clean_rows: int = 0,
        chunks: Optional[Chunks] = None,
    ) -> List[Tensor]:
        """Layers start + 1 to stop; each output is (B, T, d).

        Args:
            x: (B, T, d) float, the output of layer `start`.
            padding_mask: (B, T) bool.
            clean_rows: so many last rows are computed as in eval mode, the others as the module's mode says.
            chunks: attention stays in them; None: every frame sees the whole utterance.

        Raises:
            UserError: chunks, of an encoder that sees the future.
        """
        if chunks is not None:
            self.check_streams()
        last = self.num_layers if stop is None else stop
        if x.shape[1] == 0:
            return [x] * (last - start)
        x, inputs = self.prepare(x, padding_mask, start, clean_rows, chunks)
        outputs = []
        for index in range(start, last):
            x = self._run_layer(index, x, inputs)
            outputs.append(x)
        return outputs

    def check_streams(self) -> None:
        """Raises UserError where a frame's output needs frames after its chunk."""
        raise UserError("only `model.encoder.name: conformer` with `model.encoder.causal: true` computes in chunks")

    def prepare(
        self, x: Tensor, padding_mask: Optional[Tensor], start: int, clean_rows: int, chunks: Optional[Chunks]
    ) -> Tuple[Tensor, LayerInputs]:
        """What comes before layer `start` + 1, and what the layers share."""
        raise NotImplementedError

    def apply_layer(self, index: int, x: Tensor, inputs: LayerInputs) -> Tensor:
        """Layer `index` + 1 with what belongs to it."""
        if self.compiles:
            return apply_compiled(self.layers[index], x, inputs)
        return self.layers[index](x, inputs)

    def _run_layer(self, index: int, x: Tensor, inputs: LayerInputs) -> Tensor:
        if not self._is_dropped():
            return self._checkpointed(index, x, inputs)
        count = inputs.clean_rows
        if count == 0:
            return x
        return torch.cat([x[:-count], self._checkpointed(index, x[-count:], inputs.last_rows(count))])

    def _is_dropped(self) -> bool:
        return self.training and self.layer_dropout > 0 and torch.rand(()).item() < self.layer_dropout

    def _checkpointed(self, index: int, x: Tensor, inputs: LayerInputs) -> Tensor:
        if not (self.checkpoint_activations and torch.is_grad_enabled()):
            return self.apply_layer(index, x, inputs)
        return checkpoint(self.apply_layer, index, x, inputs, use_reentrant=False)


def padding_or_none(padding_mask: Optional[Tensor]) -> Optional[Tensor]:
    """None if nothing is padded, as far as the host can know without waiting: attention without a mask is faster.

    Utterances without any frame count as unpadded, so that no softmax is over nothing.
    """
    if padding_mask is None:
        return None
    padding_mask = padding_mask & ~padding_mask.all(1, keepdim=True)
    return padding_mask if padding_mask.device.type != "cpu" or bool(padding_mask.any()) else None
