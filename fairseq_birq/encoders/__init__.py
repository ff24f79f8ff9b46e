"""Encoders: from subsampled frames to hidden states of all layers. The registry's key is `model.encoder.name`.

A new encoder is one file and one line here. Its class has a `Config` of what it alone knows, whose keys join those that all
encoders share, and `settings(cfg)`, which makes keyword arguments of them.
"""

from typing import Dict, Type

from fairseq_birq.encoders.base import Encoder, SharedConfig
from fairseq_birq.encoders.conformer import ConformerEncoder
from fairseq_birq.encoders.transformer import TransformerEncoder
from fairseq_birq.settings import assembled, fields_of, setting

ENCODERS: Dict[str, Type[Encoder]] = {"conformer": ConformerEncoder, "transformer": TransformerEncoder}

EncoderConfig = assembled(
    "EncoderConfig",
    __name__,
    [
        ("name", str, setting("conformer", "ours, or wav2vec 2.0's from fairseq", list(ENCODERS))),
        *fields_of(SharedConfig, *(encoder.Config for encoder in ENCODERS.values())),
    ],
    "Settings of all encoders; `name` chooses one.",
)
