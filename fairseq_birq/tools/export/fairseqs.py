"""From one fairseq to the other: the whole model, with heads, targets and letters, as that side's own checkpoint.

Neither fairseq is needed here. The optimizer's state stays behind: who trains on begins with a new one.
"""

import json
from pathlib import Path

import torch

from fairseq_birq.fairseq2_files import OF_TASK, SETTINGS, SHARDS, as_fairseq, tensors_only
from fairseq_birq.settings import to_dict


def write_fairseq2(encoder, cfg, out, checkpoint) -> None:
    """A folder as a run of fairseq2 leaves it, and `card.yaml`, by which `load_model` finds the model by the folder's name.

    Args:
        cfg: the checkpoint's model settings; they stand in `model.yaml` and in the card, as JSON, which is YAML.
        checkpoint: its whole content.
    """
    settings = {**_portable(cfg), **_task_state(checkpoint)}
    step, out = f"step_{_num_updates(checkpoint)}", Path(out)
    content = {"model_family": checkpoint["cfg"]["model"]["_name"], "model_config": settings}
    (out / step / SHARDS).parent.mkdir(parents=True)
    torch.save(tensors_only(checkpoint["model"]), out / step / SHARDS.replace("*", "00"))
    _write_yaml(out / SETTINGS, {"name": "checkpoint", **content})
    _write_yaml(out / "card.yaml", {"name": out.name, **content, "checkpoint": f"{step}/model"})


def write_fairseq(encoder, cfg, out, checkpoint) -> None:
    """`checkpoint.pt` for fairseq-generate, for fine-tuning, and for `checkpoint.restore_file` with all that it can reset."""
    settings = {**_portable(cfg), "_name": checkpoint["cfg"]["model"]["_name"]}
    content = as_fairseq(settings, checkpoint["model"], _task_state(checkpoint), _num_updates(checkpoint))
    torch.save(content, Path(out) / "checkpoint.pt")


def _portable(cfg) -> dict:
    """The settings without the file that the run once began with."""
    return {**to_dict(cfg), "pretrained_path": None}


def _task_state(checkpoint) -> dict:
    stored = checkpoint.get("task_state") or {}
    return {key: list(stored[key]) for key in OF_TASK if stored.get(key)}


def _write_yaml(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _num_updates(checkpoint) -> int:
    history = checkpoint.get("optimizer_history") or [{}]
    return int(history[-1].get("num_updates", 0))
