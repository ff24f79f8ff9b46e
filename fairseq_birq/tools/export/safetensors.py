"""The log-Mel Conformer as safetensors, beside the one file that loads it with nothing but torch (`standalone.py`)."""

import json
import shutil
from pathlib import Path

from omegaconf import OmegaConf

from fairseq_birq.errors import UserError
from fairseq_birq.tools.export import standalone


def write_safetensors(encoder, cfg, out) -> None:
    """`model.safetensors`, with the settings in its metadata, and `standalone.py` in the folder `out`.

    encoder: `SpeechEncoder`; cfg: the checkpoint's model settings.

    Raises:
        UserError: the encoder is no log-Mel Conformer.
    """
    metadata = {"config": json.dumps(standalone_settings(cfg)), "format": "pt"}
    save_tensors(Path(out) / "model.safetensors", encoder.state_dict(), metadata)
    shutil.copyfile(standalone.__file__, Path(out) / "standalone.py")


def standalone_settings(cfg) -> dict:
    """What `StandaloneEncoder` needs to know. Raises UserError for another encoder."""
    if cfg.frontend.name != "logmel" or cfg.encoder.name != "conformer":
        raise UserError(
            "this export is for `model.frontend.name: logmel` with `model.encoder.name: conformer`, but "
            f"{described(cfg)}; use `--to huggingface` for a waveform Transformer"
        )
    return {key: OmegaConf.to_container(cfg[key], enum_to_str=True) for key in ("frontend", "encoder")}


def standalone_encoder(encoder, cfg):
    """A `SpeechEncoder` as `StandaloneEncoder`, in eval mode."""
    exported = standalone.StandaloneEncoder(standalone_settings(cfg))
    exported.load_state_dict(encoder.state_dict())
    return exported.eval()


def described(cfg) -> str:
    return f"this checkpoint has {cfg.frontend.name} and {cfg.encoder.name}"


def save_tensors(path, tensors, metadata) -> None:
    """A safetensors file of float32. Raises UserError where the library is missing."""
    try:
        from safetensors.torch import save_file
    except ImportError:
        raise UserError("this export needs the package safetensors: pip install 'fairseq_birq[export]'") from None
    save_file({name: tensor.detach().float().contiguous() for name, tensor in tensors.items()}, str(path), metadata)
