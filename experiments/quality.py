"""Run a table of experiments on real speech: pre-train, fine-tune, decode, and write the result table.

    python experiments/quality.py examples/best_rq/table.yaml --data /data --out runs/best_rq_table --jobs 2

The table's YAML names rows (a pre-training and a fine-tuning configuration with overrides) and seeds. With `labels_from`
a pre-training step learns the codes of a layer of another step's encoder (staged relabelling). Every step is
one of fairseq's own commands in a process of its own; a step that is done is not run again, and one that was stopped
goes on from its last checkpoint. Mean and standard deviation over seeds go between the two markers of the README
beside the YAML, with the command, the seeds and the machine.
"""

import argparse
import concurrent.futures
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path

import label_health
import torch
import yaml

from fairseq_birq.data.files import write_lines
from fairseq_birq.data.manifest import read_manifest, write_manifest
from fairseq_birq.data.transcripts import write_letter_dictionary, write_transcripts
from fairseq_birq.decoding.errors import count_generated

REPOSITORY = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
LOCKS = defaultdict(threading.Lock)  # rows that share a pre-training run wait for it
CHECKPOINTS = {"best": "checkpoint_best.pt", "last": "checkpoint_last.pt"}
SWEPT = ("--lm-weight", "--word-score")  # the decoder options that differ within a run
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"


def run(command, log_path, threads):
    """Run one command with its output in `log_path`; raise with the log's end where it fails."""
    log_path.parent.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
    with open(log_path, "w") as log:
        status = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=log_path.parent)
    if status.returncode:
        tail = "\n".join(log_path.read_text().splitlines()[-15:])
        raise SystemExit(f"error: {' '.join(map(str, command))} failed:\n{tail}")


def train(step, data, folder, seed, threads, extra=()):
    """Train one configuration into `folder` and return its checkpoint; nothing to do where it is complete."""
    done = folder / "done"
    with LOCKS[folder]:
        if done.exists():
            return folder / CHECKPOINTS[step.get("checkpoint", "last")]
        config = REPOSITORY / "examples" / step["config"]
        command = [BIN / "fairseq-hydra-train", "--config-dir", config.parent, "--config-name", config.name]
        command += [f"common.user_dir={REPOSITORY / 'fairseq_birq'}", f"task.data={data}", f"common.seed={seed}"]
        command += [f"model.seed={seed}", f"checkpoint.save_dir={folder}", f"common.log_file={folder / 'log.json'}"]
        folder.mkdir(parents=True, exist_ok=True)
        run([*command, *extra, *step.get("overrides", [])], folder / "train.log", threads)
        done.touch()
    return folder / CHECKPOINTS[step.get("checkpoint", "last")]


def pretrain(step, steps, data_root, out, seed, threads):
    """The checkpoint of a pre-training step; with `labels_from`, the step that makes its labels comes before.

    steps: all of the table's, by name. Rows and rounds that name the same step share its run.
    """
    data, overrides = data_root / step["data"], [f"model.quantizer.seed={seed}"]
    if "labels_from" in step:
        teacher = pretrain(steps[step["labels_from"]["name"]], steps, data_root, out, seed, threads)
        labels = out / "labels" / step["name"] / f"seed{seed}"
        make_labels(step, teacher, data, labels, threads)
        overrides.append(f"model.targets.label_file.path={labels}")
    return train(step, data, out / "pretrain" / step["name"] / f"seed{seed}", seed, threads, overrides)


def make_labels(step, teacher, data, folder, threads):
    """Codes of a layer of `teacher` for `step`, as examples/relabelling/run.sh makes them; of `train` too, to be measured.

    How many seconds it took goes into `done`.
    """
    config = yaml.safe_load((REPOSITORY / "examples" / step["config"]).read_text())
    first, codes = config["dataset"]["train_subset"], config["model"]["quantizer"]
    how = ["--layer", step["labels_from"]["layer"], "--num-codebooks", codes["num_codebooks"]]
    how = [*how, "--codebook-size", codes["codebook_size"]]
    with LOCKS[folder]:
        if (folder / "done").exists():
            return
        start = time.monotonic()
        for split in dict.fromkeys([first, config["dataset"]["valid_subset"], "train"]):
            options = how if split == first else ["--like", folder / first]
            command = [BIN / "birq-labels", teacher, data / f"{split}.tsv", folder / split, *options]
            run(list(map(str, command)), folder / f"{split}.log", threads)
        (folder / "done").write_text(f"{time.monotonic() - start:.0f}\n")


def decode(checkpoint, data, subset, folder, threads, options=()):
    """Decode with fairseq-generate; return {"wer": %, "cer": %} over the whole subset."""
    command = [BIN / "fairseq-generate", data, "--user-dir", REPOSITORY / "fairseq_birq", "--task", "birq_asr"]
    command += ["--path", checkpoint, "--gen-subset", subset, "--scoring", "wer", "--post-process", "letter"]
    settings = re.sub(r"[^\w.-]+", "_", "".join(f"{a}={b}," for a, b in zip(options[::2], options[1::2]) if a in SWEPT))
    log_path = folder / f"decode_{subset}_{settings or 'greedy'}.txt"
    if not log_path.exists() or "Generate" not in log_path.read_text():
        run([*command, *options, "--max-tokens", "1600000"], log_path, threads)
    counts = count_generated(log_path.read_text())
    return {"wer": counts.wer, "cer": counts.cer}


def prepared(data, out, step):
    """The corpus' folder, or a copy of its manifests with letters made of `.wrd` where `letters_from_words` says so."""
    if not step.get("letters_from_words"):
        return data
    folder = out / "data" / data.name
    with LOCKS[folder]:
        if not (folder / "done").exists():
            folder.mkdir(parents=True, exist_ok=True)
            texts = {split: (data / f"{split}.wrd").read_text().splitlines() for split in ("train", "dev", "test")}
            for split, lines in texts.items():
                manifest = read_manifest(data / f"{split}.tsv")
                rows = [(manifest.name(row), int(manifest.num_samples[row])) for row in range(len(manifest))]
                write_manifest(folder / f"{split}.tsv", manifest.root, rows)
                write_transcripts(folder, split, lines)
            write_letter_dictionary(folder, texts["train"])
            words = sorted({word for line in texts["train"] for word in line.split()})
            write_lines(folder / "lexicon.txt", (f"{word}\t{' '.join(word)} |" for word in words))
            (folder / "done").touch()
    return folder


def run_row(row, seed, table, data_root, out, threads):
    """One row with one seed: returns its scores on every subset, greedy and with the language model."""
    folder = out / re.sub(r"\W+", "_", row["name"]) / f"seed{seed}"
    extra, results = [], {}
    if "pretrain" in row:
        step = row["pretrain"]
        pretrained = pretrain(step, pretraining_steps(table), data_root, out, seed, threads)
        extra = [f"model.pretrained_path={pretrained}"]
        if table.get("labels"):
            results["labels"] = measured_labels(pretrained, data_root / step["data"])
    step = row["finetune"]
    data = prepared(data_root / step["data"], out, step)
    checkpoint = train(step, data, folder, seed, threads, extra)
    for subset in ("dev", "test"):
        results[f"{subset} greedy"] = decode(checkpoint, data, subset, folder, threads)
    if "lm" in table:
        options = choose_lm(table["lm"], checkpoint, data, folder, threads)
        for subset in ("dev", "test"):
            results[f"{subset} lm"] = decode(checkpoint, data, subset, folder, threads, options)
    (folder / "result.json").write_text(json.dumps(results, indent=1))
    print(f"{row['name']}, seed {seed}: " + json.dumps(results), flush=True)
    return results


def pretraining_steps(table):
    """The table's pre-training steps by name."""
    return {row["pretrain"]["name"]: row["pretrain"] for row in table["rows"] if "pretrain" in row}


def measured_labels(checkpoint, data):
    """Label quality of a pre-trained checkpoint, measured once and kept beside it."""
    last = checkpoint.name == CHECKPOINTS["last"]
    kept = checkpoint.with_name("labels.json" if last else f"labels_{checkpoint.stem}.json")
    with LOCKS[kept]:
        if not kept.exists():
            kept.write_text(json.dumps(label_health.measure(checkpoint, data)))
        return json.loads(kept.read_text())


def choose_lm(settings, checkpoint, data, folder, threads):
    """The decoder options with the lowest WER on dev."""
    fixed = ["--decoder", "lexicon", "--lexicon", data / settings["lexicon"], "--beam", settings["beam"]]
    if "kenlm" in settings:
        fixed += ["--kenlm", data / settings["kenlm"]]
    choices = []
    for weight in settings["lm_weight"]:
        for word_score in settings["word_score"]:
            options = [*map(str, fixed), "--lm-weight", str(weight), "--word-score", str(word_score)]
            choices.append((decode(checkpoint, data, "dev", folder, threads, options)["wer"], options))
    return min(choices)[1]


def summarise(values):
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else " (1 seed)"
    return f"{statistics.mean(values):.1f}{spread}"


def result_lines(results):
    """The table of error rates."""
    columns = [(subset, how, measure) for subset in ("dev", "test") for how in ("greedy", "lm") for measure in ("cer", "wer")]
    columns = [(s, h, m) for s, h, m in columns if any(f"{s} {h}" in r for rows in results.values() for r in rows)]
    lines = ["| row | " + " | ".join(f"{s} {m.upper()} {'greedy' if h == 'greedy' else '+ LM'}" for s, h, m in columns) + " |"]
    lines.append("| --- |" + " --- |" * len(columns))
    for name, rows in results.items():
        cells = [summarise([row[f"{subset} {how}"][measure] for row in rows]) for subset, how, measure in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def label_lines(results):
    """What the labels and layers say about phones, a line per target source; empty where no row measured them."""
    lines = ["| row | labels | PNMI dev (shuffled) | PNMI train (shuffled) | perplexity | phone probe per layer |"]
    lines.append("| --- |" + " --- |" * 5)
    for name, rows in results.items():
        measured = [row["labels"] for row in rows if "labels" in row]
        if not measured:
            continue
        probe = ", ".join(summarise(layer) for layer in zip(*[row["probe"] for row in measured]))
        for source in (key for key in measured[0] if key != "probe"):
            parts = [row[source] for row in measured]
            cells = [pnmi_cell([part[split] for part in parts]) for split in ("dev", "train")]
            cells.append(summarise([part["train"]["perplexity"] for part in parts]))
            lines.append(f"| {name} | {source} | {' | '.join(cells)} | {probe} |")
    return lines if len(lines) > 2 else []


def pnmi_cell(parts):
    return f"{statistics.mean(p['pnmi'] for p in parts):.3f} ({statistics.mean(p['chance'] for p in parts):.3f})"


def write_table(table, results, readme, command):
    """Put the tables between the markers of `readme`."""
    lines = result_lines(results)
    note = f"Per cent, mean ± standard deviation over seeds {table['seeds']}. Machine: {os.cpu_count()} CPU cores "
    note += f"({platform.machine()}), Python {platform.python_version()}, torch {torch.__version__}. Made by `{command}`."
    lines += ["", note]
    if label_lines(results):
        lines += ["", *label_lines(results)]
    text = readme.read_text()
    start, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    readme.write_text(text[:start] + "\n" + "\n".join(lines) + "\n" + text[end:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the corpora's folders")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=1, help="rows that run at once, each on cores / jobs threads")
    parser.add_argument("--rows", nargs="*", help="only the rows of these names")
    parser.add_argument("--seeds", nargs="*", type=int)
    parser.add_argument("--no-write", action="store_true", help="print results, leave the README alone")
    args = parser.parse_args()
    table = yaml.safe_load(args.table.read_text())
    seeds = table["seeds"] = args.seeds or table["seeds"]
    unknown = set(args.rows or ()) - {row["name"] for row in table["rows"]}
    if unknown:
        parser.error(f"{args.table} has no row {sorted(unknown)}")
    steps = pretraining_steps(table)
    teachers = {step["labels_from"]["name"] for step in steps.values() if "labels_from" in step}
    if teachers - set(steps):
        parser.error(f"{args.table} has no pre-training step {sorted(teachers - set(steps))}, which `labels_from` names")
    rows = [row for row in table["rows"] if not args.rows or row["name"] in args.rows]
    threads = max(1, os.cpu_count() // args.jobs)
    data, out = args.data.resolve(), args.out.resolve()
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        futures = {}
        for seed in seeds:
            for row in (row for row in rows if seed in row.get("seeds", seeds)):
                futures[row["name"], seed] = pool.submit(run_row, row, seed, table, data, out, threads)
        results = {row["name"]: [f.result() for (name, _), f in futures.items() if name == row["name"]] for row in rows}
    if not args.no_write:
        write_table(table, results, args.table.parent / "README.md", f"python experiments/quality.py {args.table}")


if __name__ == "__main__":
    main()
