"""The testbed: pre-train every row of a YAML with every seed, and measure the frozen encoders and their labels.

    python experiments/testbed.py experiments/testbed.yaml --data /data/mboshi --out runs/testbed --jobs 2

Says first how long it takes. Goes on where it stopped: a training from its last checkpoint, and what is done is not done
again. Each run leaves `<results>/<row>-seed<k>.json`, where the YAML or --results says; `summary.py` and `ladder.py` read these.
A row has a `config` of examples/, `overrides`, `starts_from` where it goes on from another row's encoder, `target_encoder`
where another row's makes its targets, and where it learns labels from files, their `codebook` (N, V) and `labels`. Another
row's encoder is that of the same seed, or of seed k with `<row>@k`. The YAML's `skip` names metrics that nobody needs, and
`measured_on` the splits (test).

| labels | what |
| --- | --- |
| `{letters: {pnmi, by}}` | letters of the forced alignment, worsened by `ladder_labels.py` |
| `{codes: {of, layer}}` | random-projection codes of a layer of another row's encoder |
| `{fitted: {of, layer, ..}}` | fitted codes of `mfcc`, `logmel` or such a layer: k-means, or as options of `birq-labels` say |
"""

import argparse
import concurrent.futures
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path

import torch
import yaml

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
FEATURES = ("mfcc", "logmel")  # of the audio, which need no encoder
LOCKS = defaultdict(threading.Lock)  # a row whose labels another row's encoder makes waits for it


def call(command, folder, log, code):
    """Run one command on one thread, its output in `folder/log`, with the package of the checkout `code`."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ, OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", PYTHONPATH=str(code))
    with open(folder / log, "w") as file:
        done = subprocess.run(list(map(str, command)), stdout=file, stderr=subprocess.STDOUT, cwd=folder, env=environment)
    if done.returncode:
        end = "\n".join((folder / log).read_text().splitlines()[-15:])
        raise SystemExit(f"error: {' '.join(map(str, command))} failed:\n{end}")


class Testbed:
    """The rows of a YAML, and the folders of their runs.

    Args:
        spec: the YAML's content.
        data, out: the corpus' folder, and where checkpoints and labels go.
        results: folder of the JSONs.
        code: the checkout that trains; it should stand still while it does.
    """

    def __init__(self, spec, data, out, results, code):
        self.spec, self.data, self.out, self.results, self.code = spec, data, out, results, code
        self.rows = {row["name"]: row for row in spec["rows"]}

    def folder(self, row, seed):
        return self.out / "pretrain" / row["name"] / f"seed{seed}"

    def labels_folder(self, row, seed):
        """Rows that learn the same labels share them, under the name of the first; so do seeds, where labels name their own."""
        same = next(r for r in self.spec["rows"] if all(r.get(key) == row.get(key) for key in ("labels", "codebook")))
        (settings,) = row["labels"].values()
        return self.out / "labels" / same["name"] / f"seed{settings.get('seed', seed)}"

    def result(self, row, seed):
        return self.results / f"{row['name']}-seed{seed}.json"

    def checkpoint(self, row, seed):
        return self.folder(row, seed) / "checkpoint_last.pt"

    def pretrain(self, row, seed):
        """The checkpoint of a row, trained unless it is there."""
        folder = self.folder(row, seed)
        with LOCKS[folder]:
            if not (folder / "done").exists():
                extra = self.make_labels(row, seed) if "labels" in row else []
                for key, setting in (("starts_from", "pretrained_path"), ("target_encoder", "target_encoder_path")):
                    if key in row:
                        extra.append(f"model.{setting}={self.encoder_of(row[key], seed)}")
                call([*self.command(row, seed, folder), *extra], folder, "train.log", self.code)
                (folder / "done").touch()
        return self.checkpoint(row, seed)

    def encoder_of(self, name, seed):
        """The checkpoint of the row `name` with this seed, or of `name@k` with seed k, trained unless it is there."""
        name, _, other = name.partition("@")
        return self.pretrain(self.rows[name], int(other or seed))

    def command(self, row, seed, folder):
        config = self.code / "examples" / row["config"]
        command = [BIN / "fairseq-hydra-train", "--config-dir", config.parent, "--config-name", config.name]
        command += [f"common.user_dir={self.code / 'fairseq_birq'}", f"task.data={self.data}", f"common.seed={seed}"]
        command += [f"model.seed={seed}", f"model.quantizer.seed={seed}", f"checkpoint.save_dir={folder}"]
        command += [f"common.log_file={folder / 'log.json'}", *self.overrides(row)]
        if "codebook" in row:
            codebooks, codes = row["codebook"]
            command += [f"model.quantizer.num_codebooks={codebooks}", f"model.quantizer.codebook_size={codes}"]
        return command

    def make_labels(self, row, seed):
        """Labels of every split in files; returns the override that names them."""
        folder = self.labels_folder(row, seed)
        (kind, settings), splits = next(iter(row["labels"].items())), self.spec["splits"]
        of = settings.get("of")
        teacher = self.encoder_of(of, seed) if of and of not in FEATURES else None
        with LOCKS[folder]:
            if not (folder / "done").exists():
                if kind == "letters":
                    command = [sys.executable, HERE / "ladder_labels.py", self.data, folder, *splits, "--seed", seed]
                    command += ["--pnmi", settings["pnmi"], "--by", settings.get("by", "frame")]
                    call(command, folder, "log", self.code)
                else:
                    self.make_codes(kind, dict(settings), row["codebook"], folder, splits, teacher, seed)
                (folder / "done").touch()
        return [f"model.targets.label_file.path={folder}"]

    def make_codes(self, kind, settings, codebook, folder, splits, teacher, seed):
        of = settings.pop("of")
        settings = {"num_codebooks": codebook[0], "codebook_size": codebook[1], **settings}
        if kind == "fitted":
            settings = {"codebook": "kmeans", "seed": seed, **settings, **({} if teacher else {"features": of})}
        how = [part for key, value in settings.items() for part in (f"--{key.replace('_', '-')}", value)]
        for split in splits:
            options = how if split == splits[0] else ["--like", folder / splits[0]]
            what = [*([teacher] if teacher else []), self.data / f"{split}.tsv", folder / split]
            call([BIN / "birq-labels", *what, *options], folder, f"{split}.log", self.code)

    def measure(self, row, seed):
        """Metrics of the frozen encoder and of its labels, in a process of its own."""
        checkpoint, done = self.pretrain(row, seed), self.result(row, seed)
        if done.exists():
            return
        found = self.folder(row, seed) / "measures.json"
        command = [sys.executable, HERE / "measures.py", checkpoint, self.data, found, "--seed", seed]
        command += ["--skip", *self.spec["skip"]] if self.spec.get("skip") else []
        command += ["--on", *self.spec.get("measured_on", ["test"])]
        if "labels" in row:
            command += ["--labels", self.labels_folder(row, seed) / self.spec["splits"][0]]
        if not found.exists():
            call(command, self.folder(row, seed), "measures.log", self.code)
        about = {"row": row["name"], "seed": seed, "updates": self.updates(row), **self.about(row, seed)}
        text = json.dumps({**about, **json.loads(found.read_text())}, indent=1)
        self.results.mkdir(exist_ok=True, parents=True)
        done.write_text(text + "\n")
        print(f"{time.strftime('%H:%M')} {done.name}", flush=True)

    def overrides(self, row):
        return [*self.spec.get("overrides", []), *row.get("overrides", []), *self.spec.get("last_overrides", [])]

    def updates(self, row):
        wanted = [int(o.partition("=")[2]) for o in self.overrides(row) if o.startswith("optimization.max_update=")]
        return wanted[-1] if wanted else None

    def about(self, row, seed):
        """What made a result: the commit that trained, the machine, the seconds of training."""
        git = ["git", "-C", str(self.code), "rev-parse", "HEAD"]
        commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
        machine = f"{os.cpu_count()} CPU cores ({platform.machine()}), one per run, torch {torch.__version__}"
        return {"commit": commit, "machine": machine, "train_seconds": train_seconds(self.folder(row, seed))}

    def plan(self, runs):
        """Seconds still to go on one core, and how many runs are done."""
        known = [json.loads(path.read_text())["train_seconds"] for path in self.results.glob("*-seed*.json")]
        each = statistics.median([s for s in known if s and s > 60] or [self.spec["seconds"]])
        left = [(row, seed) for row, seed in runs if not self.result(row, seed).exists()]
        untrained = sum(not (self.folder(row, seed) / "done").exists() for row, seed in left)
        return untrained * each + len(left) * 60, len(runs) - len(left)


def train_seconds(folder):
    """Seconds of training as its log says; None before it has said it."""
    last = None
    for line in (folder / "train.log").read_text().splitlines():
        if "done training in" in line:
            last = float(line.split("done training in ")[1].split()[0])
    return last


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("testbed", type=Path, help="a YAML")
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpus: manifests, letters, alignments")
    parser.add_argument("--out", type=Path, required=True, help="for checkpoints and labels")
    parser.add_argument("--results", type=Path, help="for the JSONs; default: as the YAML says, beside it")
    parser.add_argument("--code", type=Path, default=HERE.parent, help="the checkout that trains and measures; default: this one")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once, a core each")
    parser.add_argument("--rows", nargs="*", help="only these")
    parser.add_argument("--seeds", nargs="*", type=int, help="only these")
    parser.add_argument("--override", nargs="*", default=[], help="more overrides of every pre-training, after the YAML's")
    parser.add_argument("--only", choices=("train", "measure"), help="train without measuring, or measure what is trained")
    parser.add_argument("--plan", action="store_true", help="say how long it takes, and stop")
    args = parser.parse_args()
    spec = yaml.safe_load(args.testbed.read_text())
    spec["last_overrides"] = args.override
    results = args.results or args.testbed.resolve().parent / spec.get("results", "results")
    bed = Testbed(spec, args.data.resolve(), args.out.resolve(), results.resolve(), args.code.resolve())
    unknown = set(args.rows or ()) - set(bed.rows)
    if unknown:
        parser.error(f"{args.testbed} has no row {sorted(unknown)}; it has {sorted(bed.rows)}")
    runs = [(bed.rows[name], group["seed"]) for group in spec["runs"] for name in group["rows"]]
    runs = [(row, seed) for row, seed in runs if (args.rows is None or row["name"] in args.rows)]
    runs = [(row, seed) for row, seed in runs if (args.seeds is None or seed in args.seeds)]
    seconds, done = bed.plan(runs)
    minutes = seconds / args.jobs / 60
    print(f"{len(runs)} runs, {done} of them done; about {minutes:.0f} minutes to go, {args.jobs} at once", flush=True)
    if args.plan:
        return
    if args.only == "measure":
        runs = [(row, seed) for row, seed in runs if (bed.folder(row, seed) / "done").exists()]
    step = bed.pretrain if args.only == "train" else bed.measure
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for future in [pool.submit(step, row, seed) for row, seed in runs]:
            future.result()


if __name__ == "__main__":
    main()
