"""What a run left in its folder: checkpoint, settings, log."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Optional

from fairseq_birq.checkpoint import load_checkpoint
from fairseq_birq.errors import UserError
from fairseq_birq.tools.pictures.curves import Log, read_log

_LOG_NAMES = ("log.json", "train.log", "log.txt")
_FACTS = {  # what fairseq writes about a run before it trains, in its order
    "parameters": r"num\. shared model params: (.*)",
    "devices": r"training on (\d+) devices",
    "GPU": r"rank +\d+: (capabilities.*)",
    "batch": r"(max tokens per device = .*)",
    "training time": r"done training in ([\d.]+ seconds)",
}
_STAMP = re.compile(r"\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d+\]|^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) \|")


@dataclass
class Run:
    """A run's folder, read."""

    folder: Path
    checkpoint: Optional[Path]
    settings: Dict[str, dict]  # group ("model", "task", ...) -> key -> value; empty where there is no checkpoint
    log: Log  # empty where there is none
    logs: List[Path]  # every log file that was read
    facts: Dict[str, str] = field(default_factory=dict)

    @property
    def model(self) -> str:
        return str((self.settings.get("model") or {}).get("_name", "unknown"))

    @property
    def updates(self) -> int:
        return max((update for group in self.log.values() for update in group), default=0)


def read_run(folder, log=None) -> Run:
    """Read `checkpoint.save_dir` of a run. log: its log, where it is elsewhere.

    Raises:
        UserError: the folder is missing or holds neither checkpoint nor log, or a file in it cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name `checkpoint.save_dir` of a run")
    checkpoint = _checkpoint(folder)
    settings = {} if checkpoint is None else load_checkpoint(checkpoint).get("cfg") or {}
    settings = {name: dict(group) for name, group in settings.items() if isinstance(group, dict)}
    paths = [Path(log)] if log else _logs(folder, settings)
    statistics = read_log(log) if log else _statistics(paths)
    if checkpoint is None and not statistics:
        raise UserError(f"{folder}: has neither a checkpoint nor a log; is it `checkpoint.save_dir` of a run? --log names a log")
    return Run(folder, checkpoint, settings, statistics, paths, _facts(paths))


def _checkpoint(folder):
    named = [folder / f"checkpoint_{name}.pt" for name in ("last", "best")]
    others = sorted(folder.glob("checkpoint*.pt"), key=lambda path: [int(n) for n in re.findall(r"\d+", path.stem)])
    return next((path for path in [*named, *reversed(others)] if path.is_file()), None)


def _logs(folder, settings):
    given = (settings.get("common") or {}).get("log_file")
    names = [Path(given)] if isinstance(given, str) else []
    names += [folder / name for name in _LOG_NAMES] + sorted(folder.rglob("hydra_train.log"))
    return list({path.resolve(): path for path in names if path.is_file()}.values())


def _statistics(paths) -> Log:
    """Of the first file that has some; hydra begins a new file each time a run goes on, so those count as one."""
    hydra = [path for path in paths if path.name == "hydra_train.log"]
    for files in [*([path] for path in paths if path not in hydra), hydra]:
        log: Log = {}
        for path in files:
            for group, points in _log_or_nothing(path).items():
                log.setdefault(group, {}).update(points)
        if log:
            return log
    return {}


def _log_or_nothing(path) -> Log:
    try:
        return read_log(path)
    except UserError:
        return {}


def _facts(paths) -> Dict[str, str]:
    found, stamps = {}, []
    for path in paths:
        with path.open(errors="replace") as lines:
            for line in lines:
                stamp = _STAMP.search(line[:40])
                if stamp:
                    stamps.append(stamp[1] or stamp[2])
                for name, pattern in _FACTS.items():
                    match = re.search(pattern, line) if len(line) < 500 else None
                    if match:
                        found[name] = match[1]
    times = {"begun": min(stamps), "last line": max(stamps)} if stamps else {}
    return {**times, **{name: found[name] for name in _FACTS if name in found}}
