"""Curves of a run with a reference in grey, how far it is from that, and whether its codes are healthy."""

import math
from dataclasses import replace
from statistics import mean
from typing import Dict, List, Optional
from xml.etree.ElementTree import Element

from fairseq_birq.tools.pictures import curves, drawing
from fairseq_birq.tools.pictures.curves import Line, Log, Panel
from fairseq_birq.tools.report.html import missing, node, picture, section, table
from fairseq_birq.tools.report.reference import Reference, flat_settings, value_at

TRAINING = ("train", "train_inner")
NO_LOG = "--log FILE, where `common.log_file` or hydra wrote it elsewhere; train with common.log_format=json"
_GREY = "#8a8a8a"
_MIN_PERPLEXITY, _MAX_TOP_SHARE, _MIN_GAIN = 10.0, 0.5, 0.02  # below, above, below which codes are called unhealthy


def panels_of(log: Log) -> List[Panel]:
    """What there is to draw of a pre-training or a fine-tuning log; values that are no finite number are left out."""
    if curves.target_sources(log):
        found = curves.pretraining_panels(log)
    else:
        subsets = [group for group in log if group not in TRAINING]
        loss = [Line("training", curves.series(log, curves.training_group(log), "loss"))]
        loss += [Line(subset, curves.series(log, subset, "loss")) for subset in subsets]
        found = [Panel("loss", "nats per letter", loss)]
        for subset in subsets:
            found += curves.finetuning_panels({subset: log}, subset)
    found = [replace(panel, lines=[_finite(line) for line in panel.lines]) for panel in found]
    kept = [replace(panel, lines=[line for line in panel.lines if line.points]) for panel in found]
    return [panel for panel in kept if panel.lines]


def _finite(line: Line) -> Line:
    return replace(line, points={update: value for update, value in line.points.items() if math.isfinite(value)})


def _broken(log: Log) -> List[Element]:
    """Says how many losses are no finite number, if any."""
    losses = [values["loss"] for group in log.values() for values in group.values() if "loss" in values]
    count = sum(not math.isfinite(loss) for loss in losses)
    return (
        [node("p", f"⚠ {count} of {len(losses)} losses are no finite number; they are not drawn.", class_="bad")] if count else []
    )


def curves_section(log: Log, reference: Optional[Reference]) -> Element:
    """One picture per measure; a reference's lines in grey, in the style of the line they belong to."""
    if not log:
        return section("curves", "Curves", missing("Curves need the run's log", NO_LOG))
    others = _panels_of_reference(log, reference)
    pictures = [_picture(panel, others.get(panel.title, [])) for panel in panels_of(log)]
    parts = [*_broken(log), node("div", *pictures, class_="pictures")]
    if reference is None:
        parts.append(missing("No reference of ours fits this run; runs to compare with", "--reference LOG"))
        return section("curves", "Curves", *parts)
    count = f"{len(reference.logs)} run{'s' * (len(reference.logs) > 1)}"
    note = f"Grey, in the same line style: {reference.title}, {count} ({reference.about})."
    return section("curves", "Curves", node("p", note, class_="note"), *parts, *_comparison(log, reference, others))


def _panels_of_reference(log, reference):
    """title -> panels, one per run of the reference; its validation subset is called as in `log`."""
    found = {}
    for other in reference.logs if reference else ():
        mine, theirs = ([group for group in each if group not in TRAINING] for each in (log, other))
        if len(mine) == len(theirs) == 1:
            other = {mine[0] if group == theirs[0] else group: points for group, points in other.items()}
        for panel in panels_of(other):
            found.setdefault(panel.title, []).append(panel)
    return found


def _matching(panels, label):
    return [line for panel in panels for line in panel.lines if line.label == label]


def _picture(panel: Panel, others: List[Panel]) -> Element:
    def draw(path):
        many = len(panel.lines) > 4
        with drawing.picture(path, height_cm=7.6 if many else 6.2, width_cm=10.0) as figure:
            axes = figure.subplots()
            for number, line in enumerate(panel.lines):
                for other in _matching(others, line.label):
                    style = drawing.STYLES[number % len(drawing.STYLES)]
                    axes.plot(*zip(*sorted(other.points.items())), style, color=_GREY, linewidth=0.8, alpha=0.8, zorder=1)
            curves.draw_panel(axes, panel)
            top = max(max(line.points.values()) for part in [panel, *others] for line in part.lines)
            axes.set_ylim(0, 1.08 * top or 1)
            if many:
                axes.get_legend().remove()
                figure.legend(loc="outside lower center", ncols=2, fontsize=6, columnspacing=1.0, handlelength=1.8)

    return picture(draw, f"{panel.title} ({panel.unit}): {'; '.join(map(_said, panel.lines))}")


def _said(line: Line) -> str:
    first, last = min(line.points), max(line.points)
    return f"{line.label} from {line.points[first]:g} to {line.points[last]:g} at update {last}"


def _comparison(log, reference, others):
    """The values at the last update that both have, beside the range of the reference's runs."""
    rows = []
    for panel in panels_of(log):
        for line in panel.lines:
            ends = [max(other.points) for other in _matching(others.get(panel.title, []), line.label)]
            update = min([max(line.points), *ends])
            mine = value_at(line.points, update)
            theirs = [value_at(other.points, update) for other in _matching(others.get(panel.title, []), line.label)]
            theirs = [value for value in theirs if value is not None]
            if theirs and mine is not None:
                name = _name(panel, line)
                rows.append([name, _judged(mine, theirs), f"{mine:.4g}", _range(theirs), update])
    if not rows:
        return []
    head = ["measure", "verdict", "this run", "reference", "at update"]
    caption = "At the last update of both. Near: within the reference's range widened by a tenth of its mean on either side."
    return [node("h3", "Is it normal?"), table(head, rows, caption)]


def _name(panel, line):
    if ": " in line.label:  # a target source and its measure
        return line.label
    return panel.title if panel.title.endswith(f" {line.label}") else f"{panel.title}, {line.label}"


def _range(values):
    low, high = (f"{value:.4g}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _judged(value, values):
    margin = abs(mean(values)) / 10
    if value < min(values) - margin:
        return "↓ below"
    return "↑ above" if value > max(values) + margin else "near"


def differences_section(settings, reference: Optional[Reference]) -> List[Element]:
    """Settings that explain why curves differ from the reference's."""
    if reference is None or not reference.settings or not settings:
        return []
    mine, theirs = flat_settings(settings), reference.settings
    rows = [[key, mine.get(key, "–"), theirs.get(key, "–")]
            for key in sorted({*mine, *theirs}) if mine.get(key) != theirs.get(key)]  # fmt: skip
    if not rows:
        return [node("p", "All settings that decide how a run learns are the reference's; only corpus and seeds can differ.")]
    return [node("h3", "Settings other than the reference's"), table(["setting", "this run", "reference"], rows)]


def health_section(log: Log, settings, more=()) -> Element:
    """The codes of every target source at the run's end, with a verdict. more: measures on a manifest."""
    training, rows = curves.training_group(log), []
    for source, verdict in verdicts(log, settings).items():
        measures = {name: curves.series(log, training, f"{name}_{source}") for name in _HEALTH}
        first = list(measures["perplexity"].values())[:1]
        last = [_number(list(points.values())[-1:], _HEALTH[name]) for name, points in measures.items()]
        rows.append([source, verdict, _number(first, ".0f"), *last])
    head = ["target source", "verdict", "perplexity, first", "last", "codes in use", "masked accuracy", "most frequent code"]
    rules = (
        f"Unhealthy: perplexity below {_MIN_PERPLEXITY:g} or criterion.collapse_min_perplexity, a code with more than "
        f"{_MAX_TOP_SHARE:.0%} of the frames, or masked accuracy that exceeds the share of the most frequent code by less "
        f"than {_MIN_GAIN:.0%} of the frames."
    )
    parts = [table(head, rows, f"Training, update {max(log[training])}"), node("p", rules, class_="note")] if rows else []
    if not log:
        parts = [missing("What the log says of codes", NO_LOG)]
    elif not rows:
        parts = [node("p", "The log has no code statistics: this is no pre-training run.")]
    return section("labels", "Label health", *parts, *more)


_HEALTH = {"perplexity": ".0f", "used_share": ".1%", "accuracy": ".1%", "top_share": ".1%"}


def _number(values, form):
    return format(values[0], form) if values else "–"


def verdicts(log: Log, settings) -> Dict[str, Element]:
    """Whether the codes of each target source were healthy at the end of training, in words."""
    bound = max(_MIN_PERPLEXITY, float((settings.get("criterion") or {}).get("collapse_min_perplexity") or 0))
    found = {}
    for source in curves.target_sources(log):
        points = (curves.series(log, curves.training_group(log), f"{name}_{source}") for name in _HEALTH)
        perplexity, _, accuracy, top_share = (list(series.values())[-1] if series else None for series in points)
        faults = {
            "codes collapse": perplexity is not None and perplexity < bound,
            "one code dominates": top_share is not None and top_share > _MAX_TOP_SHARE,
            "predicts little more than the most frequent code": None not in (accuracy, top_share)
            and accuracy < top_share + _MIN_GAIN,
        }
        said = ", ".join(fault for fault, is_there in faults.items() if is_there)
        found[source] = node("span", f"⚠ {said}", class_="bad") if said else node("span", "✓ healthy", class_="good")
    return found
