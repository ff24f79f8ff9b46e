"""Tables of who_wins.yaml: what each method gains over BEST-RQ that goes on for as long, and what BEST-RQ had left to learn.

    python experiments/who_wins.py experiments/results_pool [--write docs/what_is_a_label_worth.md]

Every metric is that of `test` at the layer that is best on `dev`. The gain is over `on_best_rq` of the same seed, which has the
same masks and order of data: mean and standard deviation over seeds, and in how many of them the method is better. The
second table is that of `saturation.py`.
"""

import argparse
import json
import statistics
from pathlib import Path

from saturation import lines_of
from summary import labels_above_chance, read_results, spread, write_between

METRICS = {"letter_probe": ("letter probe", 1), "abx_within": ("ABX", -1)}  # 1: more is better, -1: less is
NAMES = {  # row: method
    "best_rq_10000": "BEST-RQ, 10,000 updates: where all others begin",
    "on_best_rq": "BEST-RQ goes on",
    "on_birq": "BiRQ, w1 : w2 = 0.1 : 2.4, reward",
    "on_birq_even": "BiRQ, 1 : 1, reward",
    "on_birq_even_detached": "BiRQ, 1 : 1, detached",
    "on_birq_scale_1": "BiRQ's losses alone, one head, scale 1",
    "on_birq_scale_5": "BiRQ's losses alone, one head, scale 5.5",
    "on_birq_scale_22": "BiRQ's losses alone, one head, scale 22",
    "on_latent_rq": "Latent-RQ, one refresh",
    "on_latent_rq_2": "Latent-RQ, two refreshes",
    "on_clusters": "clusters of its own layer 2, as in HuBERT's second round",
    "on_kmeans_mfcc": "clusters of MFCC, as in HuBERT's first round",
    "on_kmeans_mfcc_birq": "BiRQ, 0.1 : 2.4, with clusters of MFCC as the anchor",
    "on_true_letters": "true letters",
}
BASELINE = "on_best_rq"
CURVE = "saturation_best_rq.json"


def at_best_layer(result, metric):
    """`test` at the layer that is best on `dev`."""
    sign, dev = METRICS[metric][1], result["metrics_dev"][metric]
    return result["metrics"][metric][max(range(len(dev)), key=lambda layer: sign * dev[layer])]


def gains(row, baseline, metric):
    """What a row is better by, per seed that both have; positive is better."""
    sign = METRICS[metric][1]
    seeds = sorted(set(row) & set(baseline))
    return [sign * (at_best_layer(row[seed], metric) - at_best_layer(baseline[seed], metric)) for seed in seeds]


def gain_cell(found):
    if not found:
        return "–"
    deviation = f" ± {statistics.stdev(found):.1f}" if len(found) > 1 else ""
    return f"{statistics.mean(found):+.1f}{deviation} ({sum(gain > 0 for gain in found)} of {len(found)})"


def table(rows):
    shown = [title for title, _ in METRICS.values()]
    head = ["method", "row", "seeds", "labels: PNMI above chance", *shown, *(f"gain, {title}" for title in shown)]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for name, title in NAMES.items():
        if name in rows:
            row, labels = rows[name], labels_above_chance(rows[name])
            said = ", ".join(f"{source} {spread(found, 2)}" for source, found in labels.items())
            cells = [spread([at_best_layer(row[seed], metric) for seed in sorted(row)]) for metric in METRICS]
            compared = name.startswith("on_") and name != BASELINE and BASELINE in rows
            cells += [gain_cell(gains(row, rows[BASELINE], metric)) if compared else "–" for metric in METRICS]
            lines.append(f"| {title} | {name} | {len(row)} | {said} | {' | '.join(cells)} |")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--write", type=Path, help="a page with markers for the tables `who wins`, `saturation`")
    args = parser.parse_args()
    curve = json.loads((args.results / CURVE).read_text())
    tables = {"who wins": table(read_results(args.results)), "saturation": lines_of(curve)}
    for name, lines in tables.items():
        print("\n".join([*lines, ""]))
        if args.write:
            write_between(args.write, name, lines)


if __name__ == "__main__":
    main()
