"""Encoders: from subsampled frames to hidden states of all layers. The registry's key is `encoder.name` of the configuration."""

from fairseq_birq.encoders.conformer import ConformerEncoder
from fairseq_birq.encoders.transformer import TransformerEncoder

ENCODERS = {"conformer": ConformerEncoder, "transformer": TransformerEncoder}
