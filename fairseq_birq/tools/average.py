"""One checkpoint whose weights are the mean of several of one run: pre-trained or fine-tuned.

fairseq's own script for this does not know the state that our target sources keep beside their tensors.
"""

from typing import List, Sequence

import torch

from fairseq_birq.checkpoint import check_is_ours, load_checkpoint
from fairseq_birq.data.files import written_whole
from fairseq_birq.errors import UserError
from fairseq_birq.progress import progress


def average(paths: Sequence[str], out: str) -> List[str]:
    """Write `out`: floating-point weights averaged in float64, all else as in the checkpoint with the most updates.

    Without the optimizer's state, so that training cannot go on from it by mistake; fine-tuning, decoding and tools can.

    Args:
        paths: checkpoints of one run, or of runs of equal settings of the model and equal targets.

    Returns:
        Lines that say what was averaged.

    Raises:
        UserError: fewer than two, one is unreadable or of another model, or they do not fit together.
    """
    if len(paths) < 2:
        raise UserError(f"{len(paths)} checkpoint is no average: name at least two")
    updates, sums, newest, reference = [], {}, "", {}
    for path in progress(paths, title="average", unit="checkpoints"):
        content = _content(path)
        _check_fits(path, content["model"], newest or path, reference.get("model", content["model"]))
        for name, value in content["model"].items():
            if _is_averaged(value):
                sums[name] = sums.get(name, 0.0) + value.double()
        if not updates or _updates(content) > max(updates):
            newest, reference = path, content
        updates.append(_updates(content))
    model = {
        name: (sums[name] / len(paths)).to(value.dtype) if name in sums else value for name, value in reference["model"].items()
    }
    kept = {key: value for key, value in reference.items() if key not in ("last_optimizer_state", "model")}
    with written_whole(out) as file:
        torch.save({**kept, "model": model, "last_optimizer_state": None}, file)
    return [f"{out}: mean of {len(paths)} checkpoints, after {', '.join(map(str, updates))} updates"]


def _content(path) -> dict:
    content = load_checkpoint(path)
    check_is_ours(path, content)
    if not isinstance(content.get("model"), dict):
        raise UserError(f"checkpoint {path} has no weights")
    return content


def _updates(content) -> int:
    history = content.get("optimizer_history") or [{}]
    return int(history[-1].get("num_updates", 0))


def _is_averaged(value) -> bool:
    return torch.is_tensor(value) and value.is_floating_point()


def _check_fits(path, state, newest, reference) -> None:
    """Raises UserError unless the two have the same tensors, and targets of one stage and fingerprint."""
    if state.keys() != reference.keys():
        different = sorted(state.keys() ^ reference.keys())
        raise UserError(
            f"{path} and {newest} are of different models: {len(different)} weights are in one alone, as {different[0]}"
        )
    for name, value in reference.items():
        if torch.is_tensor(value) and state[name].shape != value.shape:
            shapes = f"{[*state[name].shape]} and {[*value.shape]}"
            raise UserError(f"{path} and {newest} are of different models: {name} has shapes {shapes}")
    for name, value in reference.items():
        for key in ("fingerprint", "stage") if isinstance(value, dict) else ():
            ours, theirs = (str(stored.get(key))[:12] for stored in (state[name], value))
            if state[name].get(key) != value.get(key):
                raise UserError(
                    f"{path} and {newest} have different targets ({name.rpartition('.')[0]}: {key} {ours} and {theirs}): "
                    "their prediction heads have no mean. Average checkpoints of one stage"
                )
