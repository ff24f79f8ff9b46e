"""Which settings keep BiRQ's enhanced labels informative: short runs from one BEST-RQ encoder, and what came of each.

    python experiments/regimes.py examples/birq/regimes.yaml --encoder CHECKPOINT --data /data --out runs/regimes --jobs 2

Every regime of the YAML is a `fairseq-hydra-train` run that starts from the encoder of CHECKPOINT, with its overrides and
the YAML's common ones. Afterwards: PNMI minus that of shuffled phones, and perplexity, of anchor and enhanced codes on
`train`; the accuracy of a linear phone probe on each layer (fitted on `train`, tested on `dev`); and from the log, means of
the last fifth of the updates. A regime that is done is not run again. --picture draws perplexity and loss of the enhanced
labels over updates, of the regimes that the YAML names under `picture`.
"""

import argparse
import concurrent.futures
import json
import os
import re
import statistics
from pathlib import Path

import torch
import yaml
from label_health import measure
from quality import train

from fairseq_birq.tools.pictures import curves

LOGGED = ("sampled_nearest_own_layer", "label_entropy_own_layer", "loss_own_layer", "loss_raw_input")


def logged(log_path):
    """The lowest perplexity of the enhanced labels, and means over the last fifth of the updates."""
    log, found = curves.read_log(log_path), {}
    for key in LOGGED:
        values = list(curves.series(log, "train_inner", key).values())
        if values:
            found[key] = statistics.mean(values[-max(1, len(values) // 5) :])
    perplexities = curves.series(log, "train_inner", "perplexity_own_layer").values()
    return {"lowest_perplexity": min(perplexities, default=None), **found}


def run_regime(regime, spec, encoder, data_root, out, seed, threads):
    folder = out / re.sub(r"[^\w.]+", "_", regime["name"]) / f"seed{seed}"
    result = folder / "result.json"
    if not result.exists():
        step = {**spec["run"], "overrides": [*spec["run"]["overrides"], *regime.get("overrides", [])]}
        checkpoint = train(step, data_root / step["data"], folder, seed, threads, [f"model.pretrained_path={encoder}"])
        found = {**measure(checkpoint, data_root / step["data"]), "log": logged(folder / "train.log")}
        result.write_text(json.dumps(found, indent=1))
    print(cells(regime["name"], json.loads(result.read_text())), flush=True)
    return folder / "train.log"


def cells(name, found):
    """One line of the table."""

    def codes(source):
        quality = found.get(source, {}).get("train")
        return f"{quality['pnmi'] - quality['chance']:.3f} | {quality['perplexity']:.0f}" if quality else "– | –"

    log = found["log"]
    lowest = "–" if log["lowest_perplexity"] is None else f"{log['lowest_perplexity']:.0f}"
    ends = [f"{log[key]:.2f}" if key in log else "–" for key in LOGGED]
    probe = " | ".join(f"{value:.1f}" for value in found["probe"])
    return f"| {name} | {codes('own_layer')} | {lowest} | {' | '.join(ends)} | {probe} |"


def draw(logs, path):
    """Perplexity and loss of the enhanced labels over updates. logs: name of a regime -> its log."""
    read = {name: curves.read_log(log) for name, log in logs.items()}
    panels = [
        curves.Panel(title, unit, [curves.Line(name, curves.series(log, "train_inner", key)) for name, log in read.items()])
        for title, unit, key in (
            ("perplexity of the enhanced labels", "codes", "perplexity_own_layer"),
            ("F: predicting them", "nats per masked frame", "loss_own_layer"),
        )
    ]
    curves.draw(panels, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("regimes", type=Path)
    parser.add_argument("--encoder", type=Path, required=True, help="checkpoint of a BEST-RQ run to start from")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--picture", type=Path, help="PNG to draw")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    spec = yaml.safe_load(args.regimes.read_text())
    threads = max(1, os.cpu_count() // args.jobs)
    torch.set_num_threads(threads)
    header = ["regime", "PNMI − shuffled", "perplexity", "lowest", "sampled = nearest", "label entropy", "F", "G"]
    header += [f"probe {layer}" for layer in spec["layers"]]
    print(f"| {' | '.join(header)} |\n|{' --- |' * len(header)}", flush=True)
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        arguments = (spec, args.encoder.resolve(), args.data.resolve(), args.out.resolve(), args.seed, threads)
        futures = {regime["name"]: pool.submit(run_regime, regime, *arguments) for regime in spec["regimes"]}
        logs = {name: future.result() for name, future in futures.items()}
    if args.picture:
        draw({name: logs[name] for name in spec["picture"]}, args.picture)


if __name__ == "__main__":
    main()
