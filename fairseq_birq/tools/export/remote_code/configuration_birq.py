"""Settings of the speech encoder as a configuration of transformers."""

from transformers import PretrainedConfig


class BirqConfig(PretrainedConfig):
    """`frontend` and `encoder` have fairseq_birq's own keys (`model.frontend`, `model.encoder`).

    Args:
        frontend, encoder: mappings with every setting of the log-Mel frontend and the Conformer.
        vocab_size: symbols of CTC, the blank among them; None: an encoder without an output layer.
        upsample: CTC frames per encoder frame.
        final_dropout: before the output layer.
        ctc_loss_reduction: "mean" (per letter, then over utterances) or "sum".
        ctc_zero_infinity: utterances with more letters than frames give no loss and no gradient.
        pad_token_id: the blank.
    """

    model_type = "birq"

    def __init__(
        self,
        frontend=None,
        encoder=None,
        vocab_size=None,
        upsample=1,
        final_dropout=0.0,
        ctc_loss_reduction="mean",
        ctc_zero_infinity=True,
        pad_token_id=0,
        **kwargs,
    ):
        self.frontend, self.encoder = dict(frontend or {}), dict(encoder or {})
        self.vocab_size, self.upsample, self.final_dropout = vocab_size, upsample, final_dropout
        self.ctc_loss_reduction, self.ctc_zero_infinity = ctc_loss_reduction, ctc_zero_infinity
        super().__init__(pad_token_id=pad_token_id, **kwargs)
        self.pad_token_id = pad_token_id

    @property
    def hidden_size(self):
        return self.encoder.get("dim")

    @property
    def num_hidden_layers(self):
        return self.encoder.get("num_layers")

    @property
    def num_attention_heads(self):
        return self.encoder.get("num_heads")

    @property
    def inputs_to_logits_ratio(self):
        """Samples per frame of scores: what the pipeline makes times and chunks of."""
        hop_samples = int(self.frontend["sample_rate"] * self.frontend["hop_ms"] / 1000)
        return 4 * hop_samples // self.upsample
