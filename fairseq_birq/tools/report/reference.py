"""Curves of runs of ours, to lay beside a new one: small JSON files below `analysis/reference_curves/`."""

import json
import re
from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional

from fairseq_birq.errors import UserError
from fairseq_birq.tools.pictures.curves import Log, read_log, target_sources

FOLDER = Path(__file__).resolve().parent / "reference_curves"
_EVERYWHERE = ("loss", "wer", "cer")
_IN_TRAINING = ("accuracy_", "top_share_", "perplexity_", "used_share_")
_GROUPS = ("model", "criterion", "optimization", "optimizer", "lr_scheduler")
_LEFT_OUT = ("_name", "seed", "initialized_from", "pretrained_path", "target_encoder_path", "path")  # of one run, or a path


@dataclass
class Reference:
    """Runs of one recipe that differ by their seed."""

    title: str
    about: str  # corpus, size, machine
    logs: List[Log]
    settings: Dict[str, object]  # flat, see `flat_settings`; empty where unknown

    @property
    def sources(self) -> List[str]:
        return main_sources(self.logs[0])


def main_sources(log: Log) -> List[str]:
    """Target sources of a log, each once where it has statistics per layer too."""
    return sorted({re.sub(r"_layer\d+$", "", name) for name in target_sources(log)})


def flat_settings(settings: Dict[str, dict]) -> Dict[str, object]:
    """`model.encoder.dim` -> value, of what decides how a run learns; without seeds, names and paths."""
    flat = {}

    def walk(prefix, value):
        if isinstance(value, dict):
            for key, inner in value.items():
                if key not in _LEFT_OUT:
                    walk(f"{prefix}.{key}", inner)
        else:
            flat[prefix] = value

    for group in _GROUPS:
        walk(group, settings.get(group) or {})
    walk("dataset.max_tokens", (settings.get("dataset") or {}).get("max_tokens"))
    return flat


def write(path, title: str, about: str, runs) -> None:
    """Keep what a report draws of `runs` (`report.run.Run`), which must be pre-trainings of one recipe.

    Raises:
        UserError: they have no log, or differ in more than the seed.
    """
    settings = [flat_settings(run.settings) for run in runs]
    for run, its in zip(runs, settings):
        if not run.log:
            raise UserError(f"{run.folder}: has no log with statistics")
        if its != settings[0]:
            keys = sorted(key for key in {*its, *settings[0]} if its.get(key) != settings[0].get(key))
            raise UserError(f"{run.folder}: is of another recipe than {runs[0].folder}; {', '.join(keys)} differ")
    content = {"title": title, "about": about, "settings": settings[0], "runs": [_packed(run.log) for run in runs]}
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=1, sort_keys=True)
    path.write_text(re.sub(r"\[[^\[\]{}]*\]", lambda numbers: " ".join(numbers[0].split()), text) + "\n")


def _packed(log: Log) -> dict:
    """{group: {"updates": [...], name: [...]}} of what is drawn."""
    packed = {}
    for group, points in log.items():
        if group == "train" and "train_inner" in log:
            continue
        updates, starts = sorted(points), _IN_TRAINING if group in ("train", "train_inner") else ()
        names = {name for values in points.values() for name in values if name in _EVERYWHERE or name.startswith(starts)}
        packed[group] = {name: [points[update].get(name) for update in updates] for name in names}
        packed[group]["updates"] = updates
    return packed


def read(path) -> Reference:
    """A file that `write` made."""
    content = json.loads(Path(path).read_text())
    return Reference(content["title"], content["about"], [_unpacked(run) for run in content["runs"]], content["settings"])


def _unpacked(packed) -> Log:
    log: Log = {}
    for group, columns in packed.items():
        for index, update in enumerate(columns["updates"]):
            values = {name: column[index] for name, column in columns.items() if name != "updates"}
            log.setdefault(group, {})[update] = {name: value for name, value in values.items() if value is not None}
    return log


def of_logs(paths) -> Reference:
    """The user's own reference: logs of other runs."""
    names = ", ".join(str(path) for path in paths)
    return Reference("the reference that was given", names, [read_log(path) for path in paths], {})


def choose(log: Log) -> Optional[Reference]:
    """Ours with the same target sources, if there is one; that of error rates for a fine-tuning."""
    sources = main_sources(log)
    fitting = [reference for reference in map(read, sorted(FOLDER.glob("*.json"))) if reference.sources == sources]
    return fitting[0] if fitting else None


def value_at(points: Dict[int, float], update: int) -> Optional[float]:
    """A curve between its points; None beyond its ends."""
    updates = sorted(points)
    if not updates or not updates[0] <= update <= updates[-1]:
        return None
    right = bisect_left(updates, update)
    if updates[right] == update:
        return points[update]
    before, after = updates[right - 1], updates[right]
    return points[before] + (points[after] - points[before]) * (update - before) / (after - before)
