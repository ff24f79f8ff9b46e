"""Frontends: from waveforms to what the encoder reads. The registry's key is `frontend.name` of the configuration."""

from fairseq_birq.frontends.logmel import LogMelFrontend
from fairseq_birq.frontends.waveform import WaveformFrontend

FRONTENDS = {"logmel": LogMelFrontend, "waveform": WaveformFrontend}
