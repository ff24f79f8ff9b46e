"""Frontends: from waveforms to what the encoder reads. The registry's key is `model.frontend.name`.

A new frontend is one file and one line here. Its class has a `Config`, whose keys join those below, and `settings(cfg)`,
which makes keyword arguments of them.
"""

from typing import Any, Dict

from fairseq_birq.frontends.logmel import LogMelFrontend
from fairseq_birq.frontends.waveform import WaveformFrontend
from fairseq_birq.settings import assembled, fields_of, setting

FRONTENDS: Dict[str, Any] = {"logmel": LogMelFrontend, "waveform": WaveformFrontend}

FrontendConfig = assembled(
    "FrontendConfig",
    __name__,
    [
        ("name", str, setting("logmel", "log-Mel + 2 strided convolutions, or wav2vec 2.0's CNN", list(FRONTENDS))),
        ("sample_rate", int, setting(16000, "Hz; the dataset resamples to it")),
        *fields_of(*(frontend.Config for frontend in FRONTENDS.values())),
        ("dropout", float, setting(0.0, "dropout on what enters the first encoder layer")),
    ],
    "Settings of all frontends; `name` chooses one.",
)
