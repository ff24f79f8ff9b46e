"""One training step of two checkouts, in turns: ratios of process time and of peak memory.

    git worktree add build/before v1.0
    python benchmarks/paired.py build/before                        # against this checkout: BEST-RQ, BiRQ, Latent-RQ
    python benchmarks/paired.py build/before --new build/after birq --rounds 21
    python benchmarks/paired.py build/before examples/birq/debug.yaml --set model.masked_views=2
    python benchmarks/paired.py . birq --set-new model.disturbance.overlap.prob=0.2     # what a setting costs

Both are reached through fairseq alone (a task, a model and a criterion of a config), so that modules may move between them.
A method's settings are those of benchmarks/step_rows.py: 8 x 10 s of noise, 4 x 256 for BEST-RQ and BiRQ, 17 x 128 for Latent-RQ
in stage 1. A recipe is taken as it is. Both sides have the same weights, masks and batch, which the table's last column shows.

Each side has a process of its own with one thread; they take turns, and who is first changes with each round. The ratio is
the median of the rounds' ratios, with its quartiles. Extra peak memory is that of one step after a short one, the median of
new processes. Prints a table and, in its last line, JSON. Linux only.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PEAK = REPOSITORY / "fairseq_birq" / "tools" / "doctor"  # whose peak.py needs nothing of the package
METHODS = ("best_rq", "birq", "latent_rq")
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def main():
    options = parse()
    with tempfile.TemporaryDirectory() as folder:
        write_corpus(Path(folder), options.batch, options.seconds, options.shortest)
        rows = {name: compare(name, options, folder) for name in options.what}
    print(
        f"\nold: {described(options.old)}; new: {described(options.new)}; {options.batch} x {options.seconds:g} s, one thread\n"
    )
    print("| step | old ms | new ms | new/old (quartiles) | old MiB | new MiB | new/old | loss differs by |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, row in rows.items():
        low, high = row["time_quartiles"]
        times = f"{row['old_ms']:.0f} | {row['new_ms']:.0f} | {row['time_ratio']:.3f} ({low:.3f} to {high:.3f})"
        memory = f"{row['old_mib']:.0f} | {row['new_mib']:.0f} | {row['memory_ratio']:.3f}"
        print(f"| {name} | {times} | {memory} | {row['loss_difference']:.1e} |")
    print(json.dumps(rows))


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=checkout, help="folder of the checkout to compare with")
    parser.add_argument("what", nargs="*", default=list(METHODS), help=f"{', '.join(METHODS)}, or recipes of pre-training")
    parser.add_argument("--new", type=checkout, default=REPOSITORY, help="by default this one")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--memory-runs", type=int, default=3, help="processes a side")
    parser.add_argument("--batch", type=int, default=8, help="utterances")
    parser.add_argument("--seconds", type=float, default=10.0, help="of the longest utterance")
    parser.add_argument("--shortest", type=float, default=1.0, metavar="SHARE", help="of the shortest utterance, in the longest")
    parser.add_argument("--update", type=int, default=1, help="that the model is told")
    parser.add_argument("--advance", action="store_true", help="each round is an update later, so that what it draws differs")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="of task, model or criterion, on both sides")
    parser.add_argument("--set-new", nargs="*", default=[], metavar="KEY=VALUE", help="the same, on the new side alone")
    return parser.parse_intermixed_args()


def checkout(text) -> Path:
    path = Path(text).resolve()
    if not (path / "fairseq_birq" / "__init__.py").exists():
        raise argparse.ArgumentTypeError(f"{path} has no fairseq_birq/")
    return path


def described(path) -> str:
    done = subprocess.run(["git", "-C", str(path), "describe", "--always", "--dirty"], capture_output=True, text=True)
    return done.stdout.strip() or path.name


def write_corpus(folder: Path, batch: int, seconds: float, shortest: float, sample_rate: int = 16000):
    """Splits `long` and `short` (1 s) of noise, whose utterances fall from full length to a share of it."""
    import numpy as np
    import soundfile

    random = np.random.RandomState(0)
    for split, longest in (("long", seconds), ("short", 1.0)):
        rows = [str(folder)]
        for index, length in enumerate((np.linspace(1.0, shortest, batch) * longest * sample_rate).astype(int).tolist()):
            soundfile.write(str(folder / f"{split}{index}.flac"), 0.1 * random.standard_normal(length), sample_rate)
            rows.append(f"{split}{index}.flac\t{length}")
        (folder / f"{split}.tsv").write_text("\n".join(rows) + "\n")


def compare(name, options, folder) -> dict:
    """The row of a method or a recipe."""
    sides = {"old": options.old, "new": options.new}
    changes = {"old": options.set, "new": [*options.set, *options.set_new]}
    told = {"update": options.update, "advance": options.advance}
    settings = {side: {"cfg": settings_of(name, folder, changes[side]), **told} for side in sides}
    times, losses = in_turns(sides, settings, options.rounds)
    runs = range(options.memory_runs)
    memory = {side: statistics.median(peak_of(path, settings[side]) for _ in runs) for side, path in sides.items()}
    ratios = [new / old for old, new in zip(times["old"], times["new"])]
    return {
        "time_ratio": statistics.median(ratios),
        "time_quartiles": [statistics.quantiles(ratios, n=4)[index] for index in (0, 2)] if len(ratios) > 1 else ratios * 2,
        "memory_ratio": memory["new"] / max(memory["old"], 1),
        "loss_difference": max(abs(new - old) / max(abs(old), 1e-9) for old, new in zip(losses["old"], losses["new"])),
        **{f"{side}_ms": 1000 * statistics.median(times[side]) for side in sides},
        **{f"{side}_mib": memory[side] / (1 << 20) for side in sides},
    }


def settings_of(name, folder, overrides) -> dict:
    """Sections task, model and criterion of a config, as fairseq reads them."""
    from omegaconf import OmegaConf

    if name in METHODS:
        cfg = OmegaConf.create(method_settings(name))
    else:
        recipe = OmegaConf.load(name)
        cfg = OmegaConf.create({section: recipe[section] for section in ("task", "model", "criterion")})
    cfg = OmegaConf.merge(cfg, OmegaConf.from_dotlist(list(overrides)), {"task": {"data": folder}})
    return OmegaConf.to_container(cfg)


def method_settings(name) -> dict:
    """As in benchmarks/step_rows.py, whose constants these are."""
    import step_rows as step

    sizes = dict(num_layers=step.LAYERS, dim=step.DIM, ffn_dim=step.FFN_DIM, num_heads=step.HEADS, conv_kernel=step.KERNEL)
    model = {"_name": "birq", "encoder": {"name": "conformer", **sizes}, "mask": {"start_prob": 0.013}}
    criterion = {"_name": "birq"}
    if name == "birq":
        own_layer = dict(layers=[step.LABEL_LAYER], shared_head=True, shared_codebook=True, temperature=0.5)
        model["targets"] = {"use": list(step.WEIGHTS), "own_layer": own_layer}
        criterion["weights"] = dict(step.WEIGHTS)
    if name == "latent_rq":
        snapshot = dict(layers=list(step.TARGET_LAYERS), target_updates=[1])
        model.update(encoder=dict(step.DEEP), quantizer=dict(step.DEEP_QUANTIZER), mask={"start_prob": 0.0127})
        model["targets"] = {"use": ["snapshot"], "snapshot": snapshot}
    return {"task": {"_name": "birq_pretraining"}, "model": model, "criterion": criterion}


# ---- processes


def in_turns(sides, settings, rounds):
    """{side: seconds of each round}, {side: losses}."""
    from measure import KEEP_FREED_MEMORY

    workers = {side: Worker(path, settings[side], KEEP_FREED_MEMORY) for side, path in sides.items()}
    times, losses = {side: [] for side in sides}, {side: [] for side in sides}
    try:
        for turn in range(-1, rounds):  # the first one warms up
            order = list(sides) if turn % 2 else list(sides)[::-1]
            for side in order:
                answer = workers[side].ask(["step", turn + 1])
                if turn >= 0:
                    times[side].append(answer["seconds"])
                    losses[side].append(answer["loss"])
    finally:
        for worker in workers.values():
            worker.close()
    return times, losses


def peak_of(path, settings) -> int:
    worker = Worker(path, settings)
    try:
        return worker.ask(["memory", 1])["extra_bytes"]
    finally:
        worker.close()


class Worker:
    """A process that imports one checkout, makes the model and then does as it is asked."""

    def __init__(self, path: Path, settings: dict, environment=()):
        self.path = path
        command = [sys.executable, str(Path(__file__).resolve()), "--worker", str(path), json.dumps(settings)]
        environment = {**os.environ, **ENVIRONMENT, **dict(environment), "PYTHONPATH": str(path)}
        self.errors = tempfile.TemporaryFile("w+")
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors)
        self.process = subprocess.Popen(command, env=environment, text=True, **pipes)

    def ask(self, question) -> dict:
        """Raises RuntimeError with the process's last words where it has died."""
        try:
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        answer = self.process.stdout.readline()
        if not answer:
            self.errors.seek(0)
            raise RuntimeError(f"the step of {self.path} failed:\n{self.errors.read()[-3000:]}")
        return json.loads(answer)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def work(path, settings):
    """A worker's life."""
    answers, sys.stdout = sys.stdout, sys.stderr
    sys.path[:] = [str(PEAK), *(entry for entry in sys.path if entry != str(REPOSITORY))]
    step = make_step(Path(path), settings)
    for line in sys.stdin:
        what, seed = json.loads(line)
        answer = measured(step, seed) if what == "step" else with_memory(step, seed)
        print(json.dumps(answer), file=answers, flush=True)


def measured(step, seed) -> dict:
    start = time.process_time()
    loss = step("long", seed)
    return {"seconds": time.process_time() - start, "loss": loss}


def with_memory(step, seed) -> dict:
    from peak import peak_bytes, reset_peak

    step("short", seed)  # loads what is loaded late, and makes the gradients
    before = reset_peak()
    step("long", seed)
    return {"extra_bytes": max(0, peak_bytes() - before)}


def make_step(path: Path, settings: dict):
    """A function of a split and a seed: forward and backward; returns the loss."""
    import torch
    from fairseq import tasks
    from fairseq.utils import import_user_module
    from omegaconf import OmegaConf

    import_user_module(argparse.Namespace(user_dir=str(path / "fairseq_birq")))
    assert Path(sys.modules["fairseq_birq"].__file__).resolve().parent == path / "fairseq_birq", "another checkout was imported"
    torch.set_num_threads(1)
    torch.manual_seed(1)
    cfg = OmegaConf.create(settings["cfg"])
    task = tasks.setup_task(cfg.task)
    model, criterion = task.build_model(cfg.model).train(), task.build_criterion(cfg.criterion).train()
    model.set_num_updates(settings["update"])
    batches = {split: batch_of(task, split) for split in ("long", "short")}

    def step(split, seed):
        torch.manual_seed(seed)
        if settings["advance"]:
            model.set_num_updates(settings["update"] + seed)
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad.zero_()
        loss, _, _ = criterion(model, batches[split])
        loss.backward()
        return loss.item()

    return step


def batch_of(task, split):
    """All utterances of a split."""
    task.load_dataset(split)
    dataset = task.dataset(split)
    return dataset.collater([dataset[row] for row in range(len(dataset))])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(sys.argv[2], json.loads(sys.argv[3]))
    else:
        sys.path.insert(1, str(REPOSITORY))  # step.py and measure.py want the package
        main()
