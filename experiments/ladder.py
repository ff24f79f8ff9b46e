"""Draw the ladder: each metric of the frozen encoder over how much its labels say about letters.

    python experiments/ladder.py experiments/results docs/what_is_a_label_worth.png

Lines join the rungs: true letters with noise in single frames, and merged ones. Every other row is a point at its own
labels' PNMI.
"""

import argparse
import statistics
from pathlib import Path

from summary import METRICS, labels_above_chance, read_results, values

PANELS = (
    "letter probe, best layer",
    "linear CTC, last layer",
    "ABX within speakers, best layer",
    "ABX across speakers, best layer",
)
UNITS = {"letter_probe": "accuracy, %", "linear_ctc": "letter error rate, %", "abx_within": "error, %", "abx_across": "error, %"}
RUNGS = {  # of the two ladders that end with the true letters
    "noise in frames": ("letters_0.1", "letters_0.2", "letters_0.4", "letters_0.6", "letters_0.8", "true_letters"),
    "merged": ("letters_0.4_merged", "letters_0.6_merged", "true_letters"),
}
POINTS = {  # row: (what to call it, marker)
    "best_rq": ("BEST-RQ: raw input", "o"),
    "kmeans_mfcc": ("k-means of MFCC", "s"),
    "logmel_kmeans_1x100": ("k-means of BEST-RQ's stacked log-Mel frames", "v"),
    "mfcc_random_4x256": ("random codes of MFCC", "X"),
    "logmel_kmeans_4x256": ("k-means of BEST-RQ's random projections", "<"),
    "kmeans_layer2": ("k-means of BEST-RQ's layer 2", "D"),
    "codes_layer2": ("random codes of BEST-RQ's layer 2", "^"),
    "letters_0.4_tokens": ("letters, whole tokens replaced", "P"),
}
PREFERRED = ("label_file", "own_layer", "snapshot", "raw_input")  # of several kinds of labels, the one that a row is about


def place(row):
    """PNMI above chance of the labels that a row is about, mean over seeds."""
    found = labels_above_chance(row)
    return statistics.mean(next(found[source] for source in PREFERRED if source in found))


def draw(rows, path):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8.4), layout="constrained")
    for axes, metric in zip(figure.subplots(2, 2).flat, PANELS):
        for (title, names), line in zip(RUNGS.items(), ("-", "--")):
            rungs = [(place(rows[name]), values(rows[name], metric)) for name in names if name in rows]
            dot(axes, rungs, color="black", marker=".", linestyle=line, label=f"letters, {title}")
        for number, (name, (title, marker)) in enumerate(POINTS.items()):
            if name in rows:
                dot(axes, [(place(rows[name]), values(rows[name], metric))], color=f"C{number}", marker=marker, label=title)
        if "untrained" in rows:
            axes.axhline(statistics.mean(values(rows["untrained"], metric)), color="gray", linestyle=":", label="untrained")
        axes.set(title=metric, xlabel="PNMI of the labels above chance", ylabel=UNITS[METRICS[metric][0]])
        axes.grid(alpha=0.3)
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, fontsize=9)
    figure.savefig(path, dpi=110)


def dot(axes, points, linestyle="none", **style):
    """Means with a bar of one standard deviation over seeds. points: [(x, [y per seed])]"""
    points = [(x, ys) for x, ys in points if ys]  # a row may lack a metric
    means = [statistics.mean(ys) for _, ys in points]
    deviations = [statistics.stdev(ys) if len(ys) > 1 else 0 for _, ys in points]
    axes.errorbar([x for x, _ in points], means, deviations, linestyle=linestyle, capsize=2, **style)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("picture", type=Path, help="PNG")
    args = parser.parse_args()
    draw(read_results(args.results), args.picture)


if __name__ == "__main__":
    main()
