"""Reading and writing the checkpoints of a fairseq2 run, without fairseq2: `model.yaml` beside one folder for each step.

fairseq2 keeps a model as tensors by their names (`step_N/model/pp_00/tp_00/sdp_00.pt`) and its settings once per run. What our
target sources keep beside their tensors (a fingerprint, a stage) is text there: JSON in a tensor of bytes, under the same name.
"""

import json
import re
from pathlib import Path
from typing import Callable, Dict, List, Optional, Tuple

import torch
from torch import Tensor

from fairseq_birq.errors import UserError

SETTINGS, SHARDS = "model.yaml", "model/pp_00/tp_00/sdp_*.pt"
OF_TASK = ("symbols", "unit_scores")  # of a fine-tuned model: in fairseq the task's state, in fairseq2 beside the settings
EXTRA, _BLOCK = "_extra_state", 4096  # bytes
_NUMBER = r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"


def pack(value) -> Tensor:
    """(bytes,) uint8: plain values as JSON, filled up with spaces, since fairseq2 wants equal shapes of one model."""
    text = json.dumps(value, sort_keys=True).encode("utf-8")
    return torch.tensor(list(text.ljust(-(-len(text) // _BLOCK) * _BLOCK)), dtype=torch.uint8)


def unpack(packed: Tensor):
    """The other way. Raises ValueError where the bytes are no JSON."""
    return json.loads(bytes(packed.tolist()).decode("utf-8"))


def tensors_only(state: dict) -> Dict[str, Tensor]:
    """A model's state as fairseq2 can keep it: dicts become tensors of bytes. The same for a state that is so already."""
    return {name: pack(value) if isinstance(value, dict) else value for name, value in state.items()}


def with_extra_state(state: dict) -> dict:
    """What `tensors_only` undoes, so as fairseq's checkpoints hold it."""
    return {name: unpack(value) if _is_packed(name, value) else value for name, value in state.items()}


def _is_packed(name, value) -> bool:
    return str(name).rpartition(".")[2] == EXTRA and torch.is_tensor(value)


def checkpoint_folder(path) -> Optional[Path]:
    """The folder with `model.yaml` of a run that `path` is, or is in; None where it is of no fairseq2 run.

    path: the output folder of a run, its `checkpoints`, a `step_N` in it, `step_N/model`, or a file below that
    """
    path = Path(path)
    inside = [path, path / "checkpoints", *sorted(path.glob("ws_*/checkpoints"))] if path.is_dir() else []
    around = list(path.absolute().parents)[:5] if path.exists() and _step_of(path) else []
    found = [folder for folder in [*inside, *around] if (folder / SETTINGS).is_file()]
    if len(found) > 1 and inside[0] not in found:
        raise UserError(f"checkpoint {path} has several runs: name one of them, as {found[-1]}")
    return found[0] if found else None


def _step_of(path: Path) -> Optional[Path]:
    """The `step_N` that a path is or lies in."""
    return next((part for part in [path.absolute(), *path.absolute().parents] if part.name.startswith("step_")), None)


def read_run(path, folder: Path, read_file: Callable[[Path], dict]) -> dict:
    """What `load_checkpoint` gives of a fairseq checkpoint: the model's settings and weights and, if fine-tuned, its letters.

    path: as in `checkpoint_folder`; where it names no step, the newest one is read
    folder: what that function gave
    read_file: reads one file of tensors, and nothing but tensors

    Raises:
        UserError: there is no step, `model.yaml` is damaged or of another model, or shards are missing.
    """
    step, files = step_files(path, folder)
    settings, task_state = _settings(folder / SETTINGS)
    shards = [read_file(file) for file in files]
    try:
        state = shards[0] if len(shards) == 1 else _joined(shards, _shapes(settings, task_state))
        return as_fairseq(settings, with_extra_state(state), task_state, _count(step))
    except (ValueError, RuntimeError, KeyError) as error:
        raise UserError(f"checkpoint {step}: its files do not fit together or are damaged: {error}") from None


def as_fairseq(settings: dict, state: dict, task_state: dict, num_updates: int) -> dict:
    """A checkpoint as fairseq writes it, without the optimizer's state.

    settings: of the model, with its `_name`; task_state: what a fine-tuned one knows of `OF_TASK`
    """
    task = {"_name": "birq_asr" if task_state else "birq_pretraining", "data": ""}
    history = {"criterion_name": "", "optimizer_name": "", "lr_scheduler_state": {"best": None}, "num_updates": num_updates}
    return {
        "args": None,
        "cfg": {"model": settings, "task": task},
        "model": state,
        "optimizer_history": [history],
        "task_state": task_state,
        "extra_state": {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0}, "val_loss": None},
        "last_optimizer_state": None,
    }


def step_files(path, folder: Path) -> Tuple[Path, List[Path]]:
    """The `step_N` that is read, and its files of the model, one per shard. Arguments and errors as in `read_run`."""
    step = _step_of(Path(path)) or _newest(folder)
    files = sorted(step.glob(SHARDS))
    if not files:
        raise UserError(f"checkpoint {step} has no `{SHARDS}`: it is no step of a fairseq2 run, or a part of one")
    others = [part for part in step.glob("model/*/*") if part.relative_to(step / "model") != Path("pp_00/tp_00")]
    if others:
        raise UserError(f"checkpoint {step} was trained with tensor or pipeline parallelism, as {others[0]}; none of ours is")
    return step, files


def _newest(folder: Path) -> Path:
    steps = [step for step in folder.glob("step_*") if step.is_dir() and _count(step) >= 0]
    if not steps:
        raise UserError(f"checkpoint {folder} has no step yet: fairseq2 writes a `step_N` in it where the run saves")
    return max(steps, key=_count)


def _count(step: Path) -> int:
    number = step.name[len("step_") :]
    return int(number) if number.isdigit() else -1


def _settings(path: Path):
    """Our settings of a model, with its name, and what it knows of `OF_TASK`."""
    content = read_yaml(path)
    settings = content.get("model_config") if isinstance(content, dict) else None
    if not isinstance(settings, dict) or not isinstance(content.get("model_family"), str):
        raise UserError(f"{path}: has no `model_family` and `model_config`: no run of fairseq2 wrote it")
    task_state = {key: settings.pop(key, None) for key in OF_TASK}
    return {**settings, "_name": content["model_family"]}, {key: value for key, value in task_state.items() if value}


def read_yaml(path: Path):
    """Plain values of a YAML 1.2 file, as fairseq2 writes it: `no` is a text, `1e-05` a number.

    Raises:
        UserError: it is no YAML, or PyYAML is not there.
    """
    try:
        import yaml
    except ImportError:
        raise UserError(f"{path}: to read a run of fairseq2, `pip install pyyaml`") from None

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers: Dict[str, list] = {}

    Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
    Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile("^(~|null|Null|NULL|)$"), ["~", "n", "N", ""])
    Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile("^[-+]?[0-9]+$"), list("-+0123456789"))
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(_NUMBER), list("-+.0123456789"))
    try:
        with open(path, encoding="utf-8") as file:
            return Loader(file).get_single_data()
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path}: is no YAML file: {error}") from None


def _shapes(settings: dict, task_state: dict) -> Dict[str, torch.Size]:
    """The parameters' shapes of a model; what else it keeps is whole in every shard."""
    from fairseq_birq.ctc import BirqCtcModel
    from fairseq_birq.model import BirqModel

    plain = {**settings, "pretrained_path": None, "compile_layers": False}
    model = BirqCtcModel.build_model(plain, len(task_state["symbols"])) if task_state else BirqModel.build_model(plain)
    return {name: parameter.shape for name, parameter in model.named_parameters()}


def _joined(shards: List[dict], shapes: Dict[str, torch.Size]) -> dict:
    """The whole of what FSDP cut along the first dimension."""
    state = dict(shards[0])
    for name, shape in shapes.items():
        state[name] = torch.cat([shard[name] for shard in shards if name in shard])
        if state[name].shape != shape:
            raise ValueError(f"{name} has shape {[*state[name].shape]} in all shards, and not {[*shape]}; is one missing?")
    return state
