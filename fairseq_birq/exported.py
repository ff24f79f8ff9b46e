"""Reading what birq-export writes: safetensors files, and folders for Hugging Face's transformers."""

import json
from pathlib import Path
from typing import Dict, List, Tuple

import torch
from torch import Tensor

from fairseq_birq.errors import UserError

_TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_MODEL_TYPE = "birq"
_DAMAGE = (ValueError, LookupError, TypeError, AttributeError, RuntimeError, RecursionError)


def read_safetensors(path) -> Tuple[Dict[str, str], Dict[str, Tensor]]:
    """Metadata and float32 tensors of a file. Raises one of `_DAMAGE` where it is no such file."""
    content = Path(path).read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:begin])
    data = memoryview(content)[begin:]
    return header.pop("__metadata__", {}), {name: _float32(data, entry) for name, entry in header.items()}


def _float32(content: memoryview, entry: dict) -> Tensor:
    begin, end = entry["data_offsets"]
    if entry["dtype"] not in _TYPES:
        raise ValueError(f"tensors must be floats, but one is {entry['dtype']}")
    return torch.frombuffer(bytearray(content[begin:end]), dtype=_TYPES[entry["dtype"]]).view(entry["shape"]).float()


def is_huggingface_folder(path) -> bool:
    """Whether `path` is a folder that transformers loads our Conformer of."""
    try:
        return json.loads((Path(path) / "config.json").read_text(encoding="utf-8"))["model_type"] == _MODEL_TYPE
    except (OSError, ValueError, LookupError, TypeError):
        return False


def read_huggingface_folder(path) -> dict:
    """The checkpoint that `birq-export --to huggingface` made the folder of, or what transformers' `Trainer` made of that.

    Returns:
        what `load_checkpoint` gives: the model's settings and weights and, of a fine-tuned one, its letters.

    Raises:
        UserError: the folder is damaged, its weights are in several files, or its blank is not the first symbol.
    """
    path = Path(path)
    if (path / "model.safetensors.index.json").is_file():
        raise UserError(f"{path}: its weights are in several files; save it with a larger max_shard_size")
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        _, tensors = read_safetensors(path / "model.safetensors")
        settings = {part: config[part] for part in ("frontend", "encoder")}
        state = {name[len("birq.") :] if name.startswith("birq.") else name: tensor for name, tensor in tensors.items()}
        if "output.weight" not in state:
            return {"cfg": {"model": {"_name": "birq", **settings}}, "model": state}
        settings.update(upsample=config["upsample"], dropout=float(config["final_dropout"]))
        content = {"cfg": {"model": {"_name": "birq_ctc", **settings}}, "model": state}
        if config["pad_token_id"] != 0:
            raise UserError(f"{path}: the blank (`pad_token_id`) must be symbol 0, but is {config['pad_token_id']}")
        return {**content, **_letters(path)}
    except UserError:
        raise
    except (OSError, *_DAMAGE) as error:
        raise UserError(f"{path} is not what `birq-export --to huggingface` writes ({error!r:.200})") from None


def _letters(path: Path) -> dict:
    if not (path / "vocab.json").is_file():
        return {}
    numbers = json.loads((path / "vocab.json").read_text(encoding="utf-8"))
    symbols = renamed_symbols(sorted(numbers, key=numbers.__getitem__))
    scores = json.loads((path / "tokenizer_config.json").read_text(encoding="utf-8")).get("unit_scores")
    of_units = {"unit_scores": [scores[symbol] for symbol in symbols if symbol in scores]} if scores else {}
    return {"task_state": {"symbols": symbols, **of_units}}


def renamed_symbols(symbols: List[str]) -> List[str]:
    """fairseq calls the blank of CTC, symbol 0, `<s>` and transformers calls it `<pad>`: either list as the other."""
    other = {"<s>": "<pad>", "<pad>": "<s>"}
    return [other.get(symbol, symbol) for symbol in symbols]
