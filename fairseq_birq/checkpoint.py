"""Reading checkpoints safely: only tensors and plain values, never code."""

import logging
import pickle
from pathlib import Path
from typing import Dict, Tuple

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from fairseq_birq.builders import build_speech_encoder
from fairseq_birq.config import BirqConfig, BirqCtcConfig
from fairseq_birq.encoders.speech_encoder import SpeechEncoder
from fairseq_birq.errors import UserError

logger = logging.getLogger(__name__)

_PREFIX = "speech_encoder."
_CONFIGS = {"birq": BirqConfig, "birq_ctc": BirqCtcConfig}


class DamagedCheckpoint(UserError):
    """A checkpoint file that is cut short or garbled."""


def load_checkpoint(path) -> dict:
    """The content of a fairseq checkpoint, on the CPU.

    Raises:
        UserError: the file is missing, or holds anything but tensors and plain values.
        DamagedCheckpoint: it is cut short.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist")
    try:
        return torch.load(str(path), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"checkpoint {path} holds more than tensors and plain values and was refused: {error}") from None
    except (RuntimeError, EOFError, OSError) as error:
        raise DamagedCheckpoint(f"checkpoint {path} cannot be read; it may be cut short: {error}") from None


def load_speech_encoder_state(path) -> Tuple[DictConfig, Dict[str, Tensor]]:
    """The model settings of a `birq` or `birq_ctc` checkpoint, and the weights of its speech encoder alone.

    Raises:
        UserError: the checkpoint is unreadable or of another model.
    """
    checkpoint = load_checkpoint(path)
    settings = (checkpoint.get("cfg") or {}).get("model") or {}
    name = settings.get("_name")
    if name not in _CONFIGS:
        raise UserError(f"checkpoint {path} is of model {name!r}, not of {' or '.join(sorted(_CONFIGS))}")
    cfg = OmegaConf.merge(OmegaConf.structured(_CONFIGS[name]), settings)
    weights = checkpoint["model"]
    state = {key[len(_PREFIX) :]: value for key, value in weights.items() if key.startswith(_PREFIX)}
    return cfg, state


def start_from(model, path) -> None:
    """Give a pre-training model the encoder of another run, and the heads that predict the same codes there and here.

    Raises:
        UserError: the checkpoint is unreadable, of another model, or of an encoder of another architecture.
    """
    _, encoder_state = load_speech_encoder_state(path)
    try:
        model.speech_encoder.load_state_dict(encoder_state)
    except RuntimeError as error:
        raise UserError(
            f"`model.pretrained_path`: the encoder of {path} does not fit `model.frontend` and `model.encoder`: {error}"
        ) from None
    state, taken = load_checkpoint(path)["model"], []
    for name, head in model.heads.items():
        codes = (state.get(f"targets.{name}._extra_state") or {}).get("fingerprint")
        source = model.targets[name]
        if codes is not None and codes == source.fingerprint() and not source.reset_heads:
            prefix = f"heads.{name}."
            head.load_state_dict({key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)})
            taken.append(name)
    logger.info(f"encoder and heads {taken} come from {path}")


def load_encoder(path) -> SpeechEncoder:
    """A plain module in eval mode from a pre-trained or fine-tuned checkpoint.

    `encoder(waveform, padding_mask)` with waveform (B, S) float in [-1, 1] at `encoder.frontend.sample_rate` gives
    `Encoded`: `layers`, one (B, T, d) per layer, and the encoder frames' `padding_mask` (B, T).

    Raises:
        UserError: the checkpoint is unreadable or of another model.
    """
    cfg, state = load_speech_encoder_state(path)
    encoder = build_speech_encoder(cfg.frontend, cfg.encoder)
    encoder.load_state_dict(state)
    return encoder.eval()
