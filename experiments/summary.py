"""Tables of the testbed's results: every row, and how well each metric tells good labels from BEST-RQ's.

    python experiments/summary.py experiments/results [--write docs/what_is_a_label_worth.md]

Sensitivity of a metric = |mean of the true letters - mean of BEST-RQ| / standard deviation over seeds, the root of the
mean of the two rows' variances. A metric that cannot see the best possible labels cannot rank methods.
"""

import argparse
import json
import math
import statistics
from collections import defaultdict
from pathlib import Path

# name: (key in the JSON, which layer, unit); the best layer is that of each run
METRICS = {
    "letter probe, best layer": ("letter_probe", max),
    "letter probe, last layer": ("letter_probe", "last"),
    "ABX within speakers, best layer": ("abx_within", min),
    "ABX within speakers, last layer": ("abx_within", "last"),
    "ABX across speakers, best layer": ("abx_across", min),
    "ABX across speakers, last layer": ("abx_across", "last"),
    "linear CTC, last layer": ("linear_ctc", "last"),
    "speaker probe, last layer": ("speaker_probe", "last"),
}
ENDS = ("best_rq", "true_letters")
FACTORS = {  # row: features, projection, codes, N x V
    "best_rq": ("stacked log-Mel", "random, 16", "random", "4 × 256"),
    "best_rq_1x100": ("stacked log-Mel", "random, 16", "random", "1 × 100"),
    "logmel_kmeans_4x256": ("stacked log-Mel", "random, 16", "k-means", "4 × 256"),
    "logmel_pca_4x256": ("stacked log-Mel", "PCA, 16", "random", "4 × 256"),
    "logmel_whitened_4x256": ("stacked log-Mel", "whitened PCA, 16", "random", "4 × 256"),
    "logmel_kmeans_1x100": ("stacked log-Mel", "none", "k-means", "1 × 100"),
    "logmel_whitened_kmeans_1x100": ("stacked log-Mel", "whitened PCA, 39", "k-means", "1 × 100"),
    "mfcc_random_1x100": ("MFCC", "random, 16", "random", "1 × 100"),
    "mfcc_random_4x256": ("MFCC", "random, 16", "random", "4 × 256"),
    "mfcc_kmeans_4x256": ("MFCC", "random, 16", "k-means", "4 × 256"),
    "mfcc_kmeans_as_it_is": ("MFCC, not normalised", "none", "k-means", "1 × 100"),
    "mfcc_kmeans_1x100": ("MFCC", "none", "k-means", "1 × 100"),
    "kmeans_mfcc": ("MFCC", "none", "k-means", "1 × 100"),
}


def read_results(folder):
    """{row: {seed: content of its JSON}}"""
    rows = defaultdict(dict)
    for path in sorted(Path(folder).glob("*-seed*.json")):
        found = json.loads(path.read_text())
        rows[found["row"]][found["seed"]] = found
    return dict(rows)


def values(row, metric):
    """The metric of every seed of a row that has it. row: {seed: result}"""
    key, layer = METRICS[metric]
    layers = [row[seed]["metrics"][key] for seed in sorted(row) if key in row[seed]["metrics"]]
    return [found[-1] if layer == "last" else layer(found) for found in layers]


def labels_above_chance(row):
    """{source: [PNMI - PNMI of shuffled letters, of every seed]}; nothing for a row without labels."""
    found = defaultdict(list)
    for seed in sorted(row):
        for source, quality in row[seed].get("labels", {}).items():
            found[source].append(quality["pnmi"] - quality["chance"])
    return dict(found)


def sensitivity(low, high):
    """|difference of the means| in standard deviations; None with fewer than two seeds on either side."""
    if min(len(low), len(high)) < 2:
        return None
    deviation = math.sqrt((statistics.variance(low) + statistics.variance(high)) / 2)
    difference = abs(statistics.mean(high) - statistics.mean(low))
    return difference / deviation if deviation > 0 else math.inf


def spread(numbers, digits=1):
    if not numbers:
        return "–"
    deviation = f" ± {statistics.stdev(numbers):.{digits}f}" if len(numbers) > 1 else " (1)"
    return f"{statistics.mean(numbers):.{digits}f}{deviation}"


def sensitivity_lines(rows):
    lines = ["| metric | BEST-RQ | true letters | difference | sensitivity |", "| --- |" + " --- |" * 4]
    for metric in METRICS:
        low, high = (values(rows[name], metric) for name in ENDS)
        ratio = sensitivity(low, high)
        difference = statistics.mean(high) - statistics.mean(low)
        shown = "–" if ratio is None else f"{ratio:.1f}"
        lines.append(f"| {metric} | {spread(low)} | {spread(high)} | {difference:+.1f} | {shown} |")
    return lines


def row_lines(rows):
    """Every row, in the order of its first metric."""
    shown = [m for m in METRICS if "best" in m or "CTC" in m or "speaker probe" in m]
    lines = [f"| row | seeds | labels: PNMI above chance | {' | '.join(shown)} |", "| --- |" + " --- |" * (2 + len(shown))]
    for name in sorted(rows, key=lambda name: statistics.mean(values(rows[name], shown[0]))):
        labels = labels_above_chance(rows[name]) if name != "untrained" else {}
        said = ", ".join(f"{source} {spread(found, 2)}" for source, found in labels.items()) or "–"
        cells = [spread(values(rows[name], metric)) for metric in shown]
        lines.append(f"| {name} | {len(rows[name])} | {said} | {' | '.join(cells)} |")
    return lines


def factor_lines(rows):
    """The rows that take clusters of MFCC apart, as far as they are there."""
    shown = [metric for metric in METRICS if "best" in metric]
    head = ["features", "projection", "codes", "N × V", "row", "seeds", "PNMI above chance", *shown]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for name, factors in FACTORS.items():
        if name in rows:
            (labels,) = labels_above_chance(rows[name]).values()
            cells = [*factors, name, str(len(rows[name])), spread(labels, 2)]
            lines.append(f"| {' | '.join(cells + [spread(values(rows[name], metric)) for metric in shown])} |")
    return lines


def write_between(path, name, lines):
    """Replace what is between `<!-- name: begin -->` and `<!-- name: end -->` in a page."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, rest = path.read_text().split(begin)
    path.write_text("\n".join([before + begin, *lines, end + rest.split(end)[1]]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--write", type=Path, help="a page with markers for the tables `sensitivity`, `rows`, `factors`")
    args = parser.parse_args()
    rows = read_results(args.results)
    tables = {"sensitivity": sensitivity_lines(rows), "rows": row_lines(rows), "factors": factor_lines(rows)}
    for name, lines in tables.items():
        print("\n".join([*lines, ""]))
        if args.write:
            write_between(args.write, name, lines)


if __name__ == "__main__":
    main()
