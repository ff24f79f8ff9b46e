"""Reading checkpoints safely: only tensors and plain values, never code."""

import logging
import pickle
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterable, Tuple

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from fairseq_birq.builders import build_speech_encoder
from fairseq_birq.config import BirqConfig, BirqCtcConfig
from fairseq_birq.encoders.speech_encoder import SpeechEncoder
from fairseq_birq.errors import UserError

logger = logging.getLogger(__name__)

MODELS = {"birq": BirqConfig, "birq_ctc": BirqCtcConfig}
ALLOWED_CLASSES = ()  # that a checkpoint may hold besides what torch's `weights_only` knows: tensors and plain containers
_PREFIX = "speech_encoder."


def load_checkpoint(path, allowed: Iterable = ALLOWED_CLASSES) -> dict:
    """The content of a fairseq checkpoint, on the CPU.

    allowed: classes besides tensors and plain containers; what other code told torch to trust does not count

    Raises:
        UserError: the file is missing, cut short, or holds anything but tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist")
    try:
        _refuse_compression(path)
        with _allow(allowed), open(path, "rb") as file:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"checkpoint {path} holds more than tensors and plain values and was refused: {error}") from None
    except Exception as error:  # a damaged pickle fails in every way that there is
        raise UserError(f"checkpoint {path} cannot be read; it may be cut short: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"checkpoint {path} holds a {type(content).__name__}, not a checkpoint's dict")
    return content


def _refuse_compression(path):
    """torch does not compress: a file that unpacks to more than its size was made to fill the memory."""
    with open(path, "rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return
    with zipfile.ZipFile(path) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
            raise pickle.UnpicklingError("it unpacks to more than its own size")


@contextmanager
def _allow(classes):
    """torch's list of trusted classes is exactly `classes` inside."""
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(list(classes))
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def load_speech_encoder_state(path) -> Tuple[DictConfig, Dict[str, Tensor]]:
    """The model settings of a `birq` or `birq_ctc` checkpoint, and the weights of its speech encoder alone.

    Raises:
        UserError: the checkpoint is unreadable or of another model.
    """
    checkpoint = load_checkpoint(path)
    settings, weights = _dict_in(_dict_in(checkpoint, "cfg"), "model"), _dict_in(checkpoint, "model")
    name = settings.get("_name")
    if name not in MODELS:
        raise UserError(f"checkpoint {path} is of model {name!r}, not of {' or '.join(sorted(MODELS))}")
    try:
        cfg = OmegaConf.merge(OmegaConf.structured(MODELS[name]), settings)
    except OmegaConfBaseException as error:
        raise UserError(f"checkpoint {path}: its `model` settings are not those of {name}: {error}") from None
    state = {key[len(_PREFIX) :]: value for key, value in weights.items() if str(key).startswith(_PREFIX)}
    return cfg, state


def _dict_in(parent: dict, key) -> dict:
    child = parent.get(key)
    return child if isinstance(child, dict) else {}


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
    try:
        encoder.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"checkpoint {path}: its weights are not those of its `model` settings: {error}") from None
    return encoder.eval()
