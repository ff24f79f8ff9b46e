"""How fast do encoders and labels get better? What every kept checkpoint of a table's pre-training runs says about phones.

    python experiments/probe_curve.py examples/latent_rq/table.yaml --data /data --out runs/latent_rq_table \\
        --runs utterance_frame latent_2 relabelled_1 --seeds 1 --json probe.json --picture probe.png

After `quality.py` with the same table and --out, on runs that kept their checkpoints (`checkpoint.keep_interval_updates=-1`).
For each checkpoint: the accuracy of a linear phone probe on every layer, PNMI and perplexity of every target source. The
picture has the best layer's accuracy over updates and over seconds of training, and the labels' PNMI above chance and
perplexity, means over seeds. A run on another run's labels begins where that one and its labelling ended. Seconds are those
of the machine that trained: they compare runs that ran on an equally busy one. What was measured is not measured again.
"""

import argparse
import json
import re
import statistics
from pathlib import Path

import torch
import yaml
from quality import CHECKPOINTS, measured_labels, pretraining_steps

from fairseq_birq.tools.pictures import curves


def kept_checkpoints(folder):
    """{update: path} of a finished run; the last update's is the one that `quality.py` measured."""
    found = {}
    for path in folder.glob("checkpoint_*_*.pt"):
        update = re.fullmatch(r"checkpoint_\d+_(\d+)\.pt", path.name)
        if update:
            found[int(update.group(1))] = path
    log = curves.read_log(folder / "log.json")
    found[max(update for group in log.values() for update in group)] = folder / CHECKPOINTS["last"]
    return dict(sorted(found.items()))


def seconds_at(folder):
    """A function from an update to the seconds since the run began, checkpoints and validation included, from its log."""
    log = curves.read_log(folder / "log.json")
    walls = {**curves.series(log, "train", "wall"), **curves.series(log, "train_inner", "wall")}
    return lambda update: walls[min(walls, key=lambda logged: abs(logged - update))]


def measure_run(name, steps, data_root, out, seed):
    """One entry per checkpoint: updates and seconds, with those of the runs before, and what `label_health` measures."""
    step, folder = steps[name], out / "pretrain" / name / f"seed{seed}"
    updates, seconds = cost_of_labels(step, steps, out, seed)
    entries, wall = [], seconds_at(folder)
    for update, path in kept_checkpoints(folder).items():
        found = measured_labels(path, data_root / step["data"])
        entries.append({"updates": updates + update, "seconds": round(seconds + wall(update), 1), **found})
        print(f"{name}, seed {seed}: {json.dumps(entries[-1])}", flush=True)
    return entries


def cost_of_labels(step, steps, out, seed):
    """Updates and seconds of the runs that a run takes its labels from, labelling included."""
    if "labels_from" not in step:
        return 0, 0.0
    name = step["labels_from"]["name"]
    updates, seconds = cost_of_labels(steps[name], steps, out, seed)
    folder = out / "pretrain" / name / f"seed{seed}"
    last = max(kept_checkpoints(folder))
    labelling = float((out / "labels" / step["name"] / f"seed{seed}" / "done").read_text())
    return updates + last, seconds + seconds_at(folder)(last) + labelling


def mean_line(label, seeds, x, value, source="probe"):
    """Means over seeds at the updates where all have a checkpoint with `source`. seeds: a list of entries each."""
    by_update = [{entry["updates"]: entry for entry in entries if source in entry} for entries in seeds]
    common = sorted(set.intersection(*map(set, by_update)))
    together = [[entries[update] for entries in by_update] for update in common]
    means = {statistics.mean(entry[x] for entry in entries): statistics.mean(map(value, entries)) for entries in together}
    return curves.Line(label, means)


def panels(results):
    """Probe accuracy over updates and seconds, and the labels' PNMI and perplexity. results: name -> seeds -> entries."""
    sources = [
        (name, source, seeds) for name, seeds in results.items() for source, part in seeds[0][-1].items() if is_source(part)
    ]
    several = {name for name in results if sum(name == other for other, _, _ in sources) > 1}

    def label(name, source):
        return f"{name}: {source}" if name in several else name

    def of_labels(value):
        return [
            mean_line(label(name, source), seeds, "updates", lambda entry, key=source: value(entry[key]["train"]), source)
            for name, source, seeds in sources
        ]

    def probe(x):
        return [mean_line(name, seeds, x, lambda entry: max(entry["probe"])) for name, seeds in results.items()]

    return [
        curves.Panel("linear phone probe, best layer", "% of frames", probe("updates")),
        curves.Panel("the same over time", "% of frames", probe("seconds"), x="seconds"),
        curves.Panel("PNMI of the labels above chance", "", of_labels(lambda part: part["pnmi"] - part["chance"])),
        curves.Panel("perplexity of the labels", "codes", of_labels(lambda part: part["perplexity"])),
    ]


def is_source(part):
    return isinstance(part, dict) and "train" in part


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the corpora's folders")
    parser.add_argument("--out", type=Path, required=True, help="that of quality.py")
    parser.add_argument("--runs", nargs="+", required=True, help="names of pre-training steps of the table")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--json", type=Path, required=True, help="gets the numbers")
    parser.add_argument("--picture", type=Path, help="PNG to draw")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    steps, out = pretraining_steps(yaml.safe_load(args.table.read_text())), args.out.resolve()
    unfinished = [name for name in args.runs for seed in args.seeds if not (out / f"pretrain/{name}/seed{seed}/done").exists()]
    if set(args.runs) - set(steps) or unfinished:
        parser.error(f"{args.table} has the runs {sorted(steps)}; not finished in {out}: {unfinished}")
    torch.set_num_threads(args.threads)
    results = {name: [measure_run(name, steps, args.data.resolve(), out, seed) for seed in args.seeds] for name in args.runs}
    args.json.write_text(json.dumps({name: dict(zip(args.seeds, seeds)) for name, seeds in results.items()}, indent=1) + "\n")
    if args.picture:
        curves.draw(panels(results), args.picture)


if __name__ == "__main__":
    main()
