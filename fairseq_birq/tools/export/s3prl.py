"""The log-Mel Conformer as an upstream for s3prl, which runs SUPERB's tasks: neither fairseq nor torchaudio is needed.

`expert.py` has s3prl's interface (`UpstreamExpert`: a list of waveforms in, a list of hidden states and the number of samples
per frame out), `hubconf.py` what s3prl looks for. Copy the folder to `s3prl/upstream/birq`, add
`from s3prl.upstream.birq.hubconf import fairseq_birq` to `s3prl/hub.py`, and run
`run_downstream.py -u fairseq_birq -k .../model.safetensors`.
"""

from pathlib import Path

from fairseq_birq.tools.export.safetensors import write_weights

_EXPERT = '''"""s3prl's interface. It needs `pip install fairseq_birq` with torch and numpy, and no fairseq."""

import torch
from torch import nn

try:
    from fairseq_birq import load_encoder
except ImportError as error:
    raise ImportError("this upstream needs its package, which works without fairseq: pip install fairseq_birq") from error


class UpstreamExpert(nn.Module):
    def __init__(self, ckpt, model_config=None, **kwargs):
        super().__init__()
        self.model = load_encoder(ckpt)

    def get_downsample_rates(self, key=None):
        """Samples per frame."""
        return self.model.frontend.step_samples

    def forward(self, wavs):
        """wavs: list of (S,) float tensors at 16 kHz -> {"hidden_states": 1 + K tensors (B, T, d)}."""
        waveform = nn.utils.rnn.pad_sequence(wavs, batch_first=True)
        lengths = torch.tensor([len(wav) for wav in wavs], device=waveform.device)
        encoded = self.model(waveform, torch.arange(waveform.shape[1], device=waveform.device) >= lengths[:, None])
        return {"hidden_states": [encoded.subsampled, *encoded.layers], "last_hidden_state": encoded.last}
'''

_HUBCONF = '''"""s3prl's entry point."""

from .expert import UpstreamExpert


def fairseq_birq(ckpt, *args, **kwargs):
    return UpstreamExpert(ckpt, *args, **kwargs)
'''


def write_s3prl(encoder, cfg, out, checkpoint=None) -> None:
    """`model.safetensors`, `expert.py`, `hubconf.py` and an empty `__init__.py` in the folder `out`.

    encoder: `SpeechEncoder`; cfg: the checkpoint's model settings; checkpoint: not looked at.

    Raises:
        UserError: the encoder is no log-Mel Conformer.
    """
    out = Path(out)
    write_weights(encoder, cfg, out)
    (out / "expert.py").write_text(_EXPERT)
    (out / "hubconf.py").write_text(_HUBCONF)
    (out / "__init__.py").touch()
