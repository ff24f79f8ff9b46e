"""An audit as a table, a picture, numbers for programs, and a recommendation."""

import json
from pathlib import Path
from statistics import median
from typing import Dict, List, Tuple

import torch

from fairseq_birq.data.files import written_whole
from fairseq_birq.tools.audit.audit import Audit
from fairseq_birq.tools.audit.candidates import Candidate
from fairseq_birq.tools.pictures.drawing import COLOURS, MARKERS, STYLES, picture

_BY_PHONES = ("phone_purity", "phone_purity_shuffled", "cluster_purity", "cluster_purity_shuffled")


def write(audit: Audit, out) -> List[str]:
    """Write `audit.md`, `audit.json` and `audit.png` into the folder `out`; return the lines of the first."""
    out = Path(out)
    lines = as_markdown(audit)
    draw(audit, out / "audit.png")
    for name, text in (("audit.json", json.dumps(_plain(audit), indent=1)), ("audit.md", "\n".join(lines))):
        with written_whole(out / name) as file:
            file.write(f"{text}\n".encode())
    return lines


def as_markdown(audit: Audit) -> List[str]:
    """What was listened to, the table and the recommendation, in Markdown."""
    heard = f"{audit.minutes:.1f} minutes, {audit.utterances} utterances"
    if audit.bad_audio:
        heard += f", and {audit.bad_audio} that could not be read"
    if audit.phone_share is not None:
        heard += f"; {audit.phone_share:.0%} of the frames carry a phone"
    seeds = list(audit.measures[0])
    counted = f"Median over the quantizer seeds {', '.join(map(str, seeds))} (lowest–highest), {audit.codebook_size} codes."
    config, reason = recommendation(audit)
    return [f"{heard}.", counted, "", *table(audit), "", f"Recommended, {reason}:", "", f"    {config}"]


def table(audit: Audit) -> List[str]:
    """Lines of a Markdown table, one row per candidate."""
    head = ["quantizer's input", "perplexity", "codes used", "dead", "most frequent", "repeated", "bits/s"]
    if audit.phone_share is not None:
        head += ["PNMI", "shuffled", "adjusted", "phone purity", "shuffled", "cluster purity", "shuffled"]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for candidate, found in zip(audit.candidates, audit.measures):
        cells = [_name(candidate), _spread(found, "perplexity", 0)]
        cells += [f"{_median(found, key):.0f}" for key in ("used_codes", "dead_codes")]
        cells += [f"{_median(found, key):.1%}" for key in ("top_share", "repeated_share")]
        cells.append(f"{_median(found, 'bits_per_second'):.0f}")
        if audit.phone_share is not None:
            cells += [_spread(found, "pnmi", 3), f"{_median(found, 'pnmi_shuffled'):.3f}", _spread(found, "pnmi_adjusted", 3)]
            cells += [f"{_median(found, key):.3f}" for key in _BY_PHONES]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def recommendation(audit: Audit) -> Tuple[str, str]:
    """(settings of a recipe, why): the candidate of the highest median, and its best seed."""
    best = max(range(len(audit.candidates)), key=lambda index: median(map(_score, audit.measures[index].values())))
    candidate, found = audit.candidates[best], audit.measures[best]
    config = candidate.config
    if candidate.seed_key is not None:
        config += f" {candidate.seed_key}={max(found, key=lambda seed: _score(found[seed]))}"
    if audit.phone_share is None:
        return config, "for the highest perplexity (an alignment would tell more: --alignment)"
    return config, "for the highest PNMI adjusted for chance"


def _score(measures: Dict[str, float]) -> float:
    return measures.get("pnmi_adjusted", measures["perplexity"])


def _name(candidate: Candidate) -> str:
    return candidate.place if candidate.seed_key is not None else f"{candidate.place}, {candidate.series}"


def _median(found, key) -> float:
    return median(measures[key] for measures in found.values())


def _spread(found, key, digits) -> str:
    values = [measures[key] for measures in found.values()]
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def _plain(audit: Audit) -> dict:
    rows = [
        {"series": candidate.series, "place": candidate.place, "config": candidate.config, "seeds": found}
        for candidate, found in zip(audit.candidates, audit.measures)
    ]
    keys = ("minutes", "utterances", "bad_audio", "phone_share", "codebook_size")
    return {**{key: getattr(audit, key) for key in keys}, "recommended": recommendation(audit)[0], "candidates": rows}


def draw(audit: Audit, path) -> None:
    """Perplexity, the most frequent code, PNMI beside that of shuffled phones, and how often each code is used."""
    with picture(path, height_cm=12) as figure:
        perplexity, top, third, usage = figure.subplots(2, 2).flat
        _draw_measure(perplexity, audit, "perplexity", "code perplexity", "codes")
        _draw_measure(top, audit, "top_share", "most frequent code", "share of frames")
        if audit.phone_share is None:
            _draw_measure(third, audit, "repeated_share", "frames with the code of the frame before", "share of frames")
        else:
            _draw_measure(third, audit, "pnmi", "what the codes say about phones", "PNMI")
            _draw_measure(third, audit, "pnmi_shuffled", third.get_title(), "PNMI", shuffled=True)
        _draw_usage(usage, audit)
        perplexity.legend() if len(set(c.series for c in audit.candidates)) > 1 else None


def _draw_measure(axes, audit, key, title, unit, shuffled=False):
    """One line per series over its places, with a bar from the lowest to the highest seed."""
    places = list(dict.fromkeys(candidate.place for candidate in audit.candidates))
    series = list(dict.fromkeys(candidate.series for candidate in audit.candidates))
    for number, name in enumerate(series):
        rows = [found for candidate, found in zip(audit.candidates, audit.measures) if candidate.series == name]
        values = [[measures[key] for measures in found.values()] for found in rows]
        middle = [median(row) for row in values]
        below = [value - min(row) for value, row in zip(middle, values)]
        above = [max(row) - value for value, row in zip(middle, values)]
        x = [index + 0.06 * (number - (len(series) - 1) / 2) for index in range(len(middle))]
        style = dict(color="0.45", marker="x") if shuffled else dict(color=COLOURS[number], marker=MARKERS[number])
        label = "phones shuffled" if shuffled else name
        line = STYLES[number % len(STYLES)] if len(series) > 1 else "none"
        label = None if shuffled and number else label  # one for all series
        axes.errorbar(x, middle, [below, above], linestyle=line, capsize=2, clip_on=False, label=label, **style)
    axes.set(title=title, ylabel=unit)
    axes.set_xticks(range(len(places)), [place.replace("+", "\n+") for place in places])
    axes.set_xlim(-0.5, len(places) - 0.5)
    if key == "perplexity":
        axes.set_yscale("log")
        axes.axhline(audit.codebook_size, color="0.5", linestyle=":", linewidth=1)
        axes.text(-0.45, audit.codebook_size, f"all {audit.codebook_size} codes", va="bottom", fontsize=7, color="0.35")
        axes.set_ylim(0.9, 2.5 * audit.codebook_size)
    else:
        axes.set_ylim(bottom=0)
    axes.grid(axis="y", alpha=0.3)
    if shuffled:  # several series have their legend in another panel
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(handles[-1:], labels[-1:]) if len(series) > 1 else axes.legend()


def _draw_usage(axes, audit):
    """Share of frames of every code, most frequent first, of the candidates with least and most perplexity per series."""
    shown = range(len(audit.candidates))
    if len(shown) > 6:
        order = sorted(shown, key=lambda index: _median(audit.measures[index], "perplexity"))
        shown = [order[0], order[len(order) // 2], order[-1]]
    for number, index in enumerate(shown):
        histogram = audit.histograms[index][0].sort(descending=True).values.double()
        share = (histogram / histogram.sum())[histogram > 0]
        rank = torch.arange(1, len(share) + 1)
        style = dict(color=COLOURS[number], linestyle=STYLES[number % len(STYLES)], label=_name(audit.candidates[index]))
        axes.loglog(rank, share, **style)
    axes.set(title="how often each code is used, first seed", xlabel="rank of the code", ylabel="share of frames")
    axes.grid(alpha=0.3)
    axes.legend()
