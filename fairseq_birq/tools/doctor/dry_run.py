"""A run's first steps in a process of its own: data, model, optimizer, and a few updates whose peak memory is measured.

`python -c LAUNCHER USER_DIR CONFIG RESULT` starts it as fairseq starts a process, without this package imported before.
What it found so far is in RESULT after every stage, so that a process that is killed has told where.
"""

import json
import logging
import time
from argparse import Namespace
from pathlib import Path

import torch
from omegaconf import OmegaConf

from fairseq_birq.data.files import write_lines
from fairseq_birq.errors import UserError
from fairseq_birq.tools.doctor import peak
from fairseq_birq.tools.doctor.data import splits_of

LAUNCHER = """
import sys
from argparse import Namespace
from fairseq.utils import import_user_module
import_user_module(Namespace(user_dir=sys.argv[1]))
from fairseq.tasks import TASK_REGISTRY
known = list(TASK_REGISTRY)
from fairseq_birq.tools.doctor.dry_run import main
main(*sys.argv[1:], known)
"""
STEP_SECONDS = 20.0  # that all measured updates may take together; three times as much for the second, which is needed
GROWTH = 4


def main(user_dir, config, result, known_tasks):
    """known_tasks: what is registered once `user_dir` is imported."""
    found = _Result(result)
    errors = _ErrorLines()
    logging.getLogger().addHandler(errors)
    try:
        spawned = start_spawned_import(user_dir)
        try:
            cfg = OmegaConf.load(config)
            if cfg.task._name not in known_tasks:
                raise UserError(f"common.user_dir={user_dir} registers no task {cfg.task._name}: …/fairseq_birq does")
            run(cfg, found, ready=spawned.join)
        finally:
            spawned.join()
            found.set(spawn_status=spawned.exitcode)
    except UserError as error:
        found.set(error=str(error))
    except SystemExit:  # a user's error, which was logged
        found.set(error=errors.last or "stopped without a reason")
    except Exception as error:  # of fairseq, of torch, or a bug of ours: whatever would stop the run
        found.set(error=f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}")


def run(cfg, found, ready):
    """Stages `task`, `model`, `data`, `optimizer` and `step` of a run of one process.

    ready: called before anything is measured
    """
    from fairseq import tasks, trainer

    found.set(stage="task")
    task = tasks.setup_task(cfg.task)
    found.set(stage="model")
    model, criterion = task.build_model(cfg.model), task.build_criterion(cfg.criterion)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    found.set(parameters=sum(parameter.numel() for parameter in parameters), model_bytes=_nbytes(model.state_dict()))
    found.set(stage="data")
    for split in splits_of(cfg):
        task.load_dataset(split, combine=False, epoch=1)
    found.set(stage="optimizer")
    trainer = trainer.Trainer(cfg, task, model, criterion)
    trainer.optimizer  # noqa: B018  builds it, and the learning-rate schedule
    task.check_trainer(trainer)
    found.set(stage="step")
    ready()
    Steps(cfg, task.dataset(cfg.dataset.train_subset), trainer, found).measure()
    found.set(stage="done")


class Steps:
    """Updates of growing batches at the end of the schedule, where every target source is at work."""

    def __init__(self, cfg, dataset, trainer, found):
        self.dataset, self.trainer, self.found = dataset, trainer, found
        self.late_update = max(0, cfg.optimization.max_update - 10)
        max_tokens, max_rows = cfg.dataset.max_tokens, cfg.dataset.batch_size
        rows = [row for row in dataset.ordered_indices() if max_tokens is None or dataset.size(row) <= max_tokens]
        self.rows = rows  # from long to short
        longest, total = dataset.size(rows[0]), sum(dataset.size(row) for row in rows)
        self.full_samples = min(max_tokens or total, longest * (max_rows or len(rows)), total)
        found.set(longest_samples=longest, full_samples=self.full_samples)

    def measure(self):
        """Two updates of one short utterance, then batches that grow fourfold, while they fit into the time."""
        self.trainer.set_num_updates(self.late_update)
        self._update([self.rows[-1]])
        points = [self._update([self.rows[-1]])]
        trainer, model = self.trainer, self.trainer.model
        found = dict(optimizer_bytes=_nbytes(trainer.optimizer.optimizer.state), device=str(trainer.device))
        self.found.set(gradient_bytes=_nbytes([parameter.grad for parameter in model.parameters()]), points=points, **found)
        while points[-1][0] < 0.9 * self.full_samples:
            samples, _, seconds = points[-1]
            wanted = min(GROWTH * samples, self.full_samples)
            if sum(point[2] for point in points) + seconds * wanted / samples > STEP_SECONDS * (1 if len(points) > 1 else 3):
                break
            point = self._update(self._rows_of(wanted))
            if point[0] < 1.1 * samples:  # no row or batch of a size between
                break
            points.append(point)
            self.found.set(points=points)

    def _rows_of(self, samples):
        """Rows of `samples` samples with padding, about: one short row, or several of the longest."""
        fitting = [row for row in self.rows if self.dataset.size(row) <= samples]
        return fitting[: max(1, round(samples / self.dataset.size(fitting[0])))]

    def _update(self, rows):
        """(samples with padding, peak memory of the process in bytes, seconds) of one update."""
        batch = self.dataset.collater([self.dataset[row] for row in rows])
        cuda = self.trainer.cuda
        torch.cuda.reset_peak_memory_stats() if cuda else peak.reset_peak()
        start = time.perf_counter()
        self.trainer.train_step([batch])
        seconds = time.perf_counter() - start
        used = torch.cuda.max_memory_reserved() if cuda else peak.peak_bytes()
        return batch["net_input"]["waveform"].numel(), used, seconds


class _Result:
    def __init__(self, path):
        self.path, self.values = path, {}

    def set(self, **values):
        self.values.update(values)
        write_lines(self.path, [json.dumps(self.values)])


class _ErrorLines(logging.Handler):
    last = None

    def emit(self, record):
        if record.levelno >= logging.ERROR:
            self.last = record.getMessage()


def start_spawned_import(user_dir):
    """A process, spawned as fairseq spawns one per GPU, that imports the user directory."""
    from fairseq.utils import import_user_module

    arguments = (Namespace(user_dir=user_dir),)
    process = torch.multiprocessing.get_context("spawn").Process(target=import_user_module, args=arguments)
    process.start()
    return process


def _nbytes(values):
    """Bytes of all tensors in nested dictionaries and sequences."""
    if torch.is_tensor(values):
        return values.numel() * values.element_size()
    if isinstance(values, dict):
        values = values.values()
    elif not isinstance(values, (list, tuple)):
        return 0
    return sum(_nbytes(value) for value in values)


def read_result(path) -> dict:
    path = Path(path)
    return json.loads(path.read_text()) if path.is_file() else {}
