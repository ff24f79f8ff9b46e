"""The log-Mel Conformer as safetensors, which `fairseq_birq.load_encoder` reads with nothing but torch and numpy."""

import json
from pathlib import Path
from typing import Dict

from torch import Tensor

from fairseq_birq.data.files import written_whole
from fairseq_birq.errors import UserError
from fairseq_birq.settings import to_dict

_LOAD = '''"""The encoder in this folder. It needs `pip install fairseq_birq` with torch and numpy, and no fairseq.

    encoder = load()
    encoded = encoder(waveform, padding_mask)

waveform: (B, S) float in [-1, 1] at `encoder.frontend.sample_rate`; padding_mask: (B, S) bool, True on padding, or left out.
encoded.layers: the outputs of layers 1 to K, each (B, T, d); encoded.padding_mask: (B, T) bool, of the frames.
"""

from pathlib import Path

try:
    from fairseq_birq import load_encoder
except ImportError as error:
    raise ImportError("the encoder needs its package, which works without fairseq: pip install fairseq_birq") from error


def load(path=Path(__file__).with_name("model.safetensors")):
    """In eval mode."""
    return load_encoder(path)
'''


def write_safetensors(encoder, cfg, out, checkpoint=None) -> None:
    """`model.safetensors`, with the settings in its metadata, and `load.py` in the folder `out`.

    encoder: `SpeechEncoder`; cfg: the checkpoint's model settings; checkpoint: not looked at.

    Raises:
        UserError: the encoder is no log-Mel Conformer.
    """
    write_weights(encoder, cfg, out)
    (Path(out) / "load.py").write_text(_LOAD)


def write_weights(encoder, cfg, out) -> None:
    """`model.safetensors` alone."""
    check_is_log_mel_conformer(cfg)
    settings = {part: to_dict(getattr(cfg, part)) for part in ("frontend", "encoder")}
    save_tensors(Path(out) / "model.safetensors", encoder.state_dict(), {"config": json.dumps(settings), "format": "pt"})


def check_is_log_mel_conformer(cfg) -> None:
    if cfg.frontend.name != "logmel" or cfg.encoder.name != "conformer":
        raise UserError(
            "this export is for `model.frontend.name: logmel` with `model.encoder.name: conformer`, but "
            f"{described(cfg)}; use `--to huggingface` for a waveform Transformer"
        )


def described(cfg) -> str:
    return f"this checkpoint has {cfg.frontend.name} and {cfg.encoder.name}"


def save_tensors(path, tensors: Dict[str, Tensor], metadata: Dict[str, str]) -> None:
    """A safetensors file of float32: the header's length in 8 bytes, the header as JSON, and the tensors one after the other."""
    header, end = {"__metadata__": metadata}, 0
    for name, tensor in tensors.items():
        begin, end = end, end + 4 * tensor.numel()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with written_whole(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            file.write(tensor.detach().cpu().float().contiguous().numpy().tobytes())
