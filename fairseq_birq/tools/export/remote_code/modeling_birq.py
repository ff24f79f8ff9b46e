"""The log-Mel Conformer as models of transformers. The layers are fairseq_birq's own files, which lie beside this one."""

from types import SimpleNamespace
from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutput

from fairseq_birq.encoders.conformer import ConformerEncoder
from fairseq_birq.encoders.speech_encoder import SpeechEncoder
from fairseq_birq.frontends.logmel import LogMel, LogMelFrontend
from fairseq_birq.modules.ctc_frames import ctc_frames
from fairseq_birq.structs import Encoded
from fairseq_birq.tools.export.remote_code.configuration_birq import BirqConfig


class BirqPreTrainedModel(PreTrainedModel):
    config_class = BirqConfig
    base_model_prefix = "birq"
    main_input_name = "input_values"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ["ConformerLayer"]

    def _init_weights(self, module):
        """Of what the weights' file lacks: a new output layer, and tables that are computed instead of stored."""
        if isinstance(module, LogMel):
            with torch.device("cpu"):
                fresh = LogMel(module.sample_rate, module.num_mels, module.window_ms, module.hop_ms)
            module.window.copy_(fresh.window)
            module.filters.copy_(fresh.filters)
        elif hasattr(module, "reset_parameters"):
            module.reset_parameters()

    def _set_gradient_checkpointing(self, enable=True, **kwargs):
        for module in self.modules():
            if isinstance(module, ConformerEncoder):
                module.checkpoint_activations = enable


class BirqModel(BirqPreTrainedModel):
    """Waveforms in, hidden states out: `hidden_states[0]` enters the first layer, `hidden_states[k]` is layer k's output."""

    def __init__(self, config):
        super().__init__(config)
        frontend, encoder = SimpleNamespace(**config.frontend), SimpleNamespace(**config.encoder)
        with torch.device("cpu"):  # transformers may build on no device, where the filter bank cannot be computed
            log_mel = LogMelFrontend(dim=encoder.dim, **LogMelFrontend.settings(frontend))
        self.speech_encoder = SpeechEncoder(log_mel, ConformerEncoder(**ConformerEncoder.settings(encoder)))
        self.post_init()

    def encode(self, input_values: Tensor, attention_mask: Optional[Tensor] = None) -> Encoded:
        """input_values: (B, S) float in [-1, 1]; attention_mask: (B, S), 0 on padding, which comes after the audio."""
        return self.speech_encoder(input_values, None if attention_mask is None else attention_mask == 0)

    def forward(self, input_values, attention_mask=None, output_hidden_states=None, output_attentions=None, return_dict=None):
        """As `encode`. There are no attention weights to return.

        Returns:
            `last_hidden_state` (B, T, d) and, if wanted, `hidden_states`: 1 + K of the same shape.
        """
        encoded = self.encode(input_values, attention_mask)
        output = BaseModelOutput(
            last_hidden_state=encoded.last, hidden_states=_hidden(self.config, encoded, output_hidden_states)
        )
        return output.to_tuple() if return_dict is False else output


class BirqForCTC(BirqPreTrainedModel):
    """An encoder and one linear layer over letters."""

    def __init__(self, config):
        super().__init__(config)
        if not config.vocab_size:
            raise ValueError(
                "this is a pre-trained encoder, which knows no letters: export a fine-tuned checkpoint, or give vocab_size=... "
                "(the tokenizer's length) to fine-tune a new output layer"
            )
        self.birq = BirqModel(config)
        self.dropout = nn.Dropout(config.final_dropout)
        self.output = nn.Linear(config.hidden_size, config.upsample * config.vocab_size)
        self.post_init()

    def forward(
        self,
        input_values,
        attention_mask=None,
        labels=None,
        output_hidden_states=None,
        output_attentions=None,
        return_dict=None,
    ):
        """As `BirqModel.encode`. labels: (B, L) int64 tokens of the tokenizer, negative on padding.

        Returns:
            `logits` (B, T x upsample, V), with labels `loss`, and, if wanted, `hidden_states`.
        """
        encoded = self.birq.encode(input_values, attention_mask)
        logits = ctc_frames(self.output(self.dropout(encoded.last)), self.config.upsample)
        loss = None if labels is None else self._loss(logits, encoded.padding_mask, labels)
        hidden = _hidden(self.config, encoded, output_hidden_states)
        output = CausalLMOutput(loss=loss, logits=logits, hidden_states=hidden)
        return output.to_tuple() if return_dict is False else output

    def _loss(self, logits: Tensor, padding_mask: Tensor, labels: Tensor) -> Tensor:
        """CTC (Graves et al. 2006) in float32, in nats. padding_mask: (B, T) bool of encoder frames."""
        if labels.max() >= self.config.vocab_size:
            raise ValueError(f"labels must be below vocab_size ({self.config.vocab_size}), but one is {int(labels.max())}")
        is_letter = labels >= 0
        with torch.backends.cudnn.flags(enabled=False):
            return F.ctc_loss(
                logits.log_softmax(-1, dtype=torch.float32).transpose(0, 1),
                labels[is_letter],
                (~padding_mask).sum(1) * self.config.upsample,
                is_letter.sum(1),
                blank=self.config.pad_token_id,
                reduction=self.config.ctc_loss_reduction,
                zero_infinity=self.config.ctc_zero_infinity,
            )


def _hidden(config, encoded: Encoded, wanted):
    wanted = config.output_hidden_states if wanted is None else wanted
    return (encoded.subsampled, *encoded.layers) if wanted else None
