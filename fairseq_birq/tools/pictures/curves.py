"""Training curves and code usage from fairseq's log (`common.log_format=json`), as one PNG."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List

from fairseq_birq.errors import UserError
from fairseq_birq.tools.pictures.drawing import COLOURS, STYLES, picture

Log = Dict[str, Dict[int, Dict[str, float]]]  # group ("train_inner", "train", a valid subset) -> update -> name -> value


@dataclass
class Line:
    label: str
    points: Dict[float, float]  # x, as the update -> value


@dataclass
class Panel:
    title: str
    unit: str
    lines: List[Line]
    x: str = "updates"


def read_log(path) -> Log:
    """Every JSON line of a log, whatever stands before the brace; the last one wins where an update occurs twice.

    Raises:
        UserError: the file is missing or has no such line.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such log. Train with `common.log_format=json` and keep the output")
    log: Log = {}
    with path.open(errors="replace") as lines:
        for line in lines:
            record = parse_line(line)
            if record is not None:
                group, update, values = record
                log.setdefault(group, {})[update] = values
    if not log:
        raise UserError(f"{path}: no line with training statistics. Train with `common.log_format=json`")
    return log


def parse_line(line: str):
    """(group, update, values) of one line of fairseq's log, or None where it is no statistics line."""
    start = line.find("{")
    try:
        fields = json.loads(line[start:]) if start >= 0 else None
    except ValueError:
        return None
    counters = [key for key in fields if key.endswith("num_updates")] if isinstance(fields, dict) else []
    if not counters:
        return None
    prefix = counters[0][: -len("num_updates")]
    values = {key[len(prefix) :]: _number(value) for key, value in fields.items() if key.startswith(prefix)}
    update = int(float(fields[counters[0]]))
    return prefix.rstrip("_") or "train_inner", update, {key: value for key, value in values.items() if value is not None}


def _number(value):
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def series(log: Log, group: str, name: str) -> Dict[int, float]:
    """update -> value, in order; empty where the log lacks it."""
    return {update: values[name] for update, values in sorted(log.get(group, {}).items()) if name in values}


def training_group(log: Log) -> str:
    """The group of training points: every `log_interval`, or of epochs where a run is shorter than that."""
    return "train_inner" if "train_inner" in log else "train"


def pretraining_panels(log: Log) -> List[Panel]:
    """Loss, masked accuracy beside the share of the most frequent code, and code perplexity, per target source."""
    subsets = [group for group in log if group not in ("train", "train_inner")]
    training = training_group(log)
    loss = [Line("training", series(log, training, "loss"))]
    loss += [Line(subset, series(log, subset, "loss")) for subset in subsets]
    accuracy, usage, share = [], [], []
    for source in target_sources(log):
        accuracy.append(Line(f"{source}: accuracy", series(log, training, f"accuracy_{source}")))
        accuracy.append(Line(f"{source}: most frequent code", series(log, training, f"top_share_{source}")))
        usage.append(Line(source, series(log, training, f"perplexity_{source}")))
        share.append(Line(source, series(log, training, f"used_share_{source}")))
    return [
        Panel("pre-training loss", "nats per masked frame", loss),
        Panel("prediction of masked codes", "share of masked frames", accuracy),
        Panel("code perplexity", "codes", usage),
        Panel("codes in use", "share of the codebook", share),
    ]


def finetuning_panels(logs: Dict[str, Log], subset: str) -> List[Panel]:
    """Word and character error rate on `subset` while fine-tuning, one line per run. logs: label -> log."""
    return [
        Panel(f"{name.upper()} on {subset}", "%", [Line(label, series(log, subset, name)) for label, log in logs.items()])
        for name in ("wer", "cer")
    ]


def compared_panels(logs: Dict[str, Log]) -> List[Panel]:
    """Several runs in one plot: loss, then accuracy, perplexity and use of the codebook per target source, then error rates.

    logs: label -> log; error rates are of every validation subset that has some
    """
    loss = [Line(run, series(log, training_group(log), "loss")) for run, log in logs.items()]
    panels = [Panel("training loss", "as logged", loss)]
    for prefix, title, unit in (
        ("accuracy_", "prediction of masked codes", "share of masked frames"),
        ("perplexity_", "code perplexity", "codes"),
        ("used_share_", "codes in use", "share of the codebook"),
    ):
        lines = [Line(f"{run}: {source}", series(log, training_group(log), f"{prefix}{source}"))
                 for run, log in logs.items() for source in target_sources(log)]  # fmt: skip
        panels.append(Panel(title, unit, lines))
    subsets = dict.fromkeys(group for log in logs.values() for group in log if group not in ("train", "train_inner"))
    return panels + [panel for subset in subsets for panel in finetuning_panels(logs, subset)]


def target_sources(log: Log) -> List[str]:
    """Names of the target sources that a log has code statistics of."""
    prefix = "perplexity_"
    names = {name for group in log.values() for values in group.values() for name in values if name.startswith(prefix)}
    return sorted(name[len(prefix) :] for name in names)


def draw(panels: List[Panel], path) -> Path:
    """Draw panels two to a row into the picture `path` and return it. Lines without points are left out.

    Raises:
        UserError: matplotlib is missing, or no panel has a point.
    """
    panels = [panel for panel in panels if any(line.points for line in panel.lines)]
    if not panels:
        raise UserError(f"nothing to draw for {path}: the log has none of the curves")
    rows = (len(panels) + 1) // 2
    with picture(path, height_cm=5.6 * rows) as figure:
        for number, panel in enumerate(panels, start=1):
            draw_panel(figure.add_subplot(rows, 2, number), panel)
    return Path(path)


def draw_panel(axes, panel: Panel) -> None:
    """The lines of a panel that have points, with its title, axes and legend."""
    lines = [line for line in panel.lines if line.points]
    for number, line in enumerate(lines):
        updates, values = zip(*sorted(line.points.items()))
        colour, style = COLOURS[number % len(COLOURS)], STYLES[number % len(STYLES)]
        marker = "o" if len(updates) < 3 else None
        axes.plot(updates, values, style, color=colour, label=line.label, marker=marker)
    axes.set(title=panel.title, xlabel=panel.x, ylabel=panel.unit)
    room = 1.08 + 0.24 * max(0, len(lines) - 2)  # a long legend needs some above the lines
    axes.set_ylim(0, room * max(max(line.points.values()) for line in lines) or 1)
    axes.grid(alpha=0.3)
    axes.legend()
