"""Reading checkpoints safely: only tensors and plain values, never code."""

import json
import logging
import pickle
import re
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterable, List, Tuple, Union

import torch
from torch import Tensor

from fairseq_birq.builders import build_speech_encoder
from fairseq_birq.config import BirqConfig, BirqCtcConfig
from fairseq_birq.encoders.speech_encoder import SpeechEncoder
from fairseq_birq.errors import UserError
from fairseq_birq.exported import is_huggingface_folder, read_huggingface_folder, read_safetensors
from fairseq_birq.fairseq2_files import checkpoint_folder, read_run, step_files
from fairseq_birq.settings import from_dict

logger = logging.getLogger(__name__)

MODELS = {"birq": BirqConfig, "birq_ctc": BirqCtcConfig}
ALLOWED_CLASSES = ()  # that a checkpoint may hold besides what torch's `weights_only` knows: tensors and plain containers
_EXPORTED = ("model.safetensors", "model.onnx", "config.json", "hubconf.py", "expert.py")  # in folders of birq-export
_PREFIX = "speech_encoder."


class DamagedCheckpoint(UserError):
    """A checkpoint file that is cut short or garbled."""


def load_checkpoint(path, allowed: Iterable = ALLOWED_CLASSES) -> dict:
    """The content of a fairseq checkpoint, of a run of fairseq2, or of a folder of `birq-export --to huggingface`, on the CPU.

    path: of a run of fairseq2 its folder, whose newest step is read, or a `step_N` in it
    allowed: classes besides tensors and plain containers; what other code told torch to trust does not count

    Raises:
        UserError: the file is missing, or holds anything but tensors and plain values.
        DamagedCheckpoint: it is cut short.
    """
    path = Path(path)
    if is_huggingface_folder(path):
        return read_huggingface_folder(path)
    run = checkpoint_folder(path)
    if run is not None:
        return read_run(path, run, _read_file)
    return _read_file(path, allowed)


def _read_file(path: Path, allowed: Iterable = ALLOWED_CLASSES) -> dict:
    require_checkpoint_file(path)
    try:
        _refuse_compression(path)
        with _allow(allowed), open(path, "rb") as file:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"checkpoint {path} holds more than tensors and plain values and was refused: {_reason(error)}. No checkpoint of "
            f"this package does; those of {' and '.join(sorted(MODELS))} are read here"
        ) from None
    except Exception as error:  # a damaged pickle fails in every way that there is
        raise DamagedCheckpoint(
            f"checkpoint {path} cannot be read; it may be cut short, or no checkpoint: {_reason(error)}"
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"checkpoint {path} holds a {type(content).__name__}, not a checkpoint's dict")
    return content


def checkpoint_files(path) -> List[Path]:
    """The files of weights that a checkpoint is read of: itself, those of a step of fairseq2, or of a folder for transformers.

    Raises:
        UserError, DamagedCheckpoint: a look from outside tells that there is no checkpoint.
    """
    if is_huggingface_folder(path):
        return [Path(path) / "model.safetensors"]
    run = checkpoint_folder(path)
    files = [Path(path)] if run is None else step_files(path, run)[1]
    for file in files:
        require_checkpoint_file(file)
    return files


def require_checkpoint_file(path: Path) -> None:
    """Raises UserError or DamagedCheckpoint where a look from outside tells that there is no checkpoint."""
    if path.is_dir():
        exported = any((path / name).is_file() for name in _EXPORTED)
        what = "an exported encoder for other libraries: name the checkpoint that it was made of" if exported else "a folder"
        inside = sorted(path.glob("checkpoint*.pt"))
        found = f": name a file in it, as {inside[-1]}" if inside and not exported else ""
        raise UserError(f"checkpoint {path} is {what}{found}")
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist")
    with open(path, "rb") as file:
        begin = file.read(4)
    if begin != b"PK\x03\x04" and begin[:1] != b"\x80":  # torch's zip, and its older pickle
        raise DamagedCheckpoint(
            f"checkpoint {path} cannot be read: it is no checkpoint, or a damaged one; it begins with {begin!r}"
        )


def _reason(error) -> str:
    """What torch says of a file in one line, without its advice to load it all the same by calls that no user made."""
    text = str(error)
    asked = re.search(r"GLOBAL ([\w.]+)", text)
    if asked:
        return f"it asks for {asked[1]}"
    return (text.split("WeightsUnpickler error:")[-1].strip().splitlines() or [type(error).__name__])[0][:200].rstrip(" .")


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


def load(path) -> Tuple[Union[BirqConfig, BirqCtcConfig], Dict[str, Tensor]]:
    """The model settings of a `birq` or `birq_ctc` checkpoint, and all weights; the file is read once.

    Raises:
        UserError: the checkpoint is unreadable or of another model.
    """
    return settings_and_weights(load_checkpoint(path), path)


def settings_and_weights(checkpoint: dict, path) -> Tuple[Union[BirqConfig, BirqCtcConfig], Dict[str, Tensor]]:
    """The same of the content of a checkpoint; path: what errors call it."""
    settings = _dict_in(_dict_in(checkpoint, "cfg"), "model")
    name = settings.get("_name")
    check_is_ours(path, checkpoint)
    try:
        return from_dict(MODELS[name], settings), _dict_in(checkpoint, "model")
    except UserError as error:
        raise UserError(f"checkpoint {path}: its `model` settings are not those of {name}: {error}") from None


def load_speech_encoder_state(path) -> Tuple[Union[BirqConfig, BirqCtcConfig], Dict[str, Tensor]]:
    """The same with the weights of the speech encoder alone, by their names in a `SpeechEncoder`."""
    cfg, state = load(path)
    return cfg, _speech_encoder_state(state)


def _speech_encoder_state(state) -> Dict[str, Tensor]:
    return {key[len(_PREFIX) :]: value for key, value in state.items() if str(key).startswith(_PREFIX)}


def check_is_ours(path, content: dict) -> None:
    """Raises UserError where the content of a checkpoint is of no model of this package."""
    name, known = _dict_in(_dict_in(content, "cfg"), "model").get("_name"), " or ".join(sorted(MODELS))
    if name is None:
        raise UserError(f"checkpoint {path} names no model in its settings: it is not one that fairseq wrote of {known}")
    if name not in MODELS:
        raise UserError(f"checkpoint {path} is of model {name!r}, not of {known}")


def _dict_in(parent: dict, key) -> dict:
    child = parent.get(key)
    return child if isinstance(child, dict) else {}


def start_from(model, path) -> None:
    """Give a pre-training model the encoder of another run, and the heads that predict the same codes there and here.

    Raises:
        UserError: the checkpoint is unreadable, of another model, or of an encoder of another architecture.
    """
    (_, state), taken = load(path), []
    try:
        model.speech_encoder.load_state_dict(_speech_encoder_state(state))
    except RuntimeError as error:
        raise UserError(
            f"`model.pretrained_path`: the encoder of {path} does not fit `model.frontend` and `model.encoder`: {error}"
        ) from None
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

    path: of a checkpoint, of a `model.safetensors` that birq-export wrote, or of a folder of `birq-export --to huggingface`

    Raises:
        UserError: the checkpoint is unreadable or of another model.
    """
    return speech_encoder_of(*(load_exported(path) if str(path).endswith(".safetensors") else load(path)), path)


def load_exported(path) -> Tuple[BirqConfig, Dict[str, Tensor]]:
    """The same as `load` of a `model.safetensors` that `birq-export --to safetensors` wrote: float32, settings in its metadata.

    Raises:
        UserError: the file is missing or is no such file.
    """
    if not Path(path).is_file():
        raise UserError(f"{path} does not exist")
    try:
        metadata, tensors = read_safetensors(path)
        settings, state = json.loads(metadata["config"]), {f"{_PREFIX}{name}": tensor for name, tensor in tensors.items()}
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError, RecursionError) as error:
        raise UserError(f"{path} is not what `birq-export --to safetensors` writes ({error!r:.200})") from None
    try:
        return from_dict(BirqConfig, settings), state
    except UserError as error:
        raise UserError(f"{path}: its settings are not those of an encoder: {error}") from None


def speech_encoder_of(cfg, state: Dict[str, Tensor], path) -> SpeechEncoder:
    """The encoder of what `load(path)` gave. Raises UserError for weights that are not those of the settings."""
    encoder = build_speech_encoder(cfg.frontend, cfg.encoder)
    try:
        encoder.load_state_dict(_speech_encoder_state(state))
    except RuntimeError as error:
        raise UserError(f"checkpoint {path}: its weights are not those of its `model` settings: {error}") from None
    return encoder.eval()
