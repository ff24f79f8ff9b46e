"""What an update would ask of a GPU, counted on a pretend one: kernels launched, waits of the host, bytes moved.

    python benchmarks/launches.py examples/birq/c2_librispeech.yaml
    python benchmarks/launches.py examples/latent_rq/librispeech_base.yaml model.block_mb=1024

One update of a recipe by fairseq's own Trainer, in the recipe's precision, of one batch of 8 utterances of 11.7 to 13 s
(noise), after two that are not counted; at update 300,001, where every target source is at work and nothing is
logged. One process, one batch an update. Prints JSON:

- launches, waits, mismatches, copies: see tests/fixtures/pretend_gpu.py; they do not depend on the encoder's width, so it is
  narrowed.
- bytes: of forward and backward. Every operation's bytes are a polynomial of degree 2 in the width, so three widths give
  those of the recipe's. `--direct` computes at the recipe's own width instead, in minutes.

The CPU's numerics decide a few data-dependent launches; one in a hundred may differ between machines.
"""

import argparse
import contextlib
import io
import json
import logging
import sys
import tempfile
from pathlib import Path

import torch

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))  # the fixtures of the tests

from tests.fixtures.on_device import fairseq_on  # noqa: E402
from tests.fixtures.pretend_gpu import PretendGpu  # noqa: E402

SAMPLE_RATE = 16000
UPDATE = 299999
WARM_UPDATES = 2  # they set statistics and the optimizer's state, and what the host knows of them
PHASES = ("zero_grad", "forward", "backward", "clip", "optimizer", "log")


def main():
    options = parse()
    recipe = Path(options.recipe).resolve()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        write_corpus(Path(folder), options.batch, options.seconds)
        result = measure_recipe(recipe, folder, options)
    print(json.dumps(result, indent=1))


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*", help="of the recipe, as for fairseq-hydra-train")
    parser.add_argument("--batch", type=int, default=8, help="utterances")
    parser.add_argument("--seconds", type=float, default=13.0, help="of the longest one; the shortest has 90 %% of it")
    parser.add_argument("--micro-batches", type=int, default=1, help="of one update")
    parser.add_argument("--direct", action="store_true", help="at the recipe's own width")
    parser.add_argument("--lines", action="store_true", help="also every line that waits, and those that launch most")
    return parser.parse_args()


def measure_recipe(recipe, folder, options) -> dict:
    """The JSON's content."""
    settings = compose(recipe, folder, options.overrides).model.encoder
    dim, ffn_dim, heads = settings.dim, settings.ffn_dim, settings.num_heads
    if options.direct:
        record = measure(recipe, folder, options, [])
        moved = bytes_of_passes(record)
    else:
        widths = [2 * factor * heads for factor in (2, 4, 6)]  # rotary positions want an even width of a head
        records = [measure(recipe, folder, options, narrowed(width, ffn_dim / dim)) for width in widths]
        record, moved = records[-1], extrapolated(widths, [bytes_of_passes(one) for one in records], dim)
    result = {"recipe": recipe.stem, "overrides": options.overrides, **record.totals(), "bytes": round(moved)}
    result["by_phase"] = record.by_phase("launches")
    for kind in ("launches", "waits", "mismatches", "copies"):
        result[f"{kind}_by_file"] = record.by_file(kind)
    if options.lines:
        result["waits_by_line"] = record.lines("waits")
        result["launches_by_line"] = dict(list(record.lines("launches").items())[:60])
    return result


def narrowed(width, ffn_ratio):
    return [f"model.encoder.dim={width}", f"model.encoder.ffn_dim={round(width * ffn_ratio)}"]


def bytes_of_passes(record) -> int:
    by_phase = record.by_phase("bytes")
    return by_phase.get("forward", 0) + by_phase.get("backward", 0)


def extrapolated(xs, ys, x) -> float:
    """The parabola through three points, at x (Lagrange)."""
    total = 0.0
    for i, (xi, yi) in enumerate(zip(xs, ys)):
        for j, xj in enumerate(xs):
            yi = yi if i == j else yi * (x - xj) / (xi - xj)
        total += yi
    return total


def write_corpus(folder: Path, batch, seconds):
    """Noise whose lengths differ by a tenth, as in a batch that was sorted by length; `train` and `valid` are the same."""
    import soundfile

    generator = torch.Generator().manual_seed(0)
    rows = [str(folder)]
    for index, length in enumerate((torch.linspace(1.0, 0.9, batch) * seconds * SAMPLE_RATE).long().tolist()):
        soundfile.write(str(folder / f"{index}.flac"), (0.1 * torch.randn(length, generator=generator)).numpy(), SAMPLE_RATE)
        rows.append(f"{index}.flac\t{length}")
    for split in ("train", "valid"):
        (folder / f"{split}.tsv").write_text("\n".join(rows) + "\n")


def compose(recipe, folder, overrides):
    from argparse import Namespace

    from fairseq.utils import import_user_module

    user_dir = REPOSITORY / "fairseq_birq"
    import_user_module(Namespace(user_dir=str(user_dir)))
    from fairseq_birq.tools.doctor.config import Launch, compose

    fixed = [
        f"common.user_dir={user_dir}",
        f"task.data={folder}",
        f"checkpoint.save_dir={folder}/run",
        "dataset.train_subset=train",
        "dataset.valid_subset=valid",
        "dataset.num_workers=0",
        "distributed_training.distributed_world_size=1",
    ]
    return compose(Launch(recipe, [*fixed, *overrides]))


def measure(recipe, folder, options, widths):
    """The `Record` of an update at a width of the encoder."""
    cfg = compose(recipe, folder, [*options.overrides, *widths])
    torch.manual_seed(cfg.common.seed)
    with PretendGpu() as gpu, fairseq_on(gpu.device), contextlib.redirect_stdout(io.StringIO()):
        trainer = build_trainer(cfg)
        phases = Phases(trainer, gpu)
        dataset = trainer.task.dataset(cfg.dataset.train_subset)
        batch = dataset.collater([dataset[row] for row in range(len(dataset))])
        trainer.set_num_updates(UPDATE)
        for _ in range(WARM_UPDATES):
            update(trainer, batch, options.micro_batches)
        with gpu.recording() as record:
            phases.begin("other")
            update(trainer, batch, options.micro_batches)
    return record


def build_trainer(cfg):
    """As fairseq's command builds it up to the first update."""
    from fairseq import checkpoint_utils, tasks
    from fairseq.trainer import Trainer

    Path(cfg.checkpoint.save_dir).mkdir(exist_ok=True)
    task = tasks.setup_task(cfg.task)
    model, criterion = task.build_model(cfg.model), task.build_criterion(cfg.criterion)
    trainer = Trainer(cfg, task, model, criterion)
    checkpoint_utils.load_checkpoint(cfg.checkpoint, trainer)  # there is none; it also arms the run against bad updates
    return trainer


def update(trainer, batch, micro_batches):
    from fairseq.logging import metrics

    with metrics.aggregate("train"), metrics.aggregate("train_inner"):
        return trainer.train_step([batch] * micro_batches)


class Phases:
    """Tells the record which part of fairseq's update is running."""

    def __init__(self, trainer, gpu):
        self.gpu = gpu
        optimizer = trainer.optimizer
        parts = [(trainer, "zero_grad"), (trainer._criterion, "forward"), (optimizer, "backward"), (trainer, "clip_grad_norm")]
        parts += [(optimizer, "step"), (trainer, "_reduce_and_log_stats")]
        for (owner, name), phase in zip(parts, PHASES):
            setattr(owner, name, self._within(getattr(owner, name), phase))

    def begin(self, phase):
        self.gpu.record.phase = phase

    def _within(self, function, phase):
        def call(*args, **kwargs):
            with self.gpu.phase(phase):
                return function(*args, **kwargs)

        return call


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    main()
