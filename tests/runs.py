"""Whole training runs of the debug recipes, each in a process of its own that is forked from a loaded one.

As fairseq's command, without the seconds of its start-up; so a run can be killed, or go wrong, many times in a test.
"""

import io
import logging
import multiprocessing
import os
import resource
import sys
import time
from pathlib import Path

import torch
import yaml
from fairseq.dataclass.configs import FairseqConfig
from fairseq.distributed.utils import call_main
from fairseq_cli.train import main
from omegaconf import OmegaConf

from fairseq_birq.criterion import BirqCriterion
from fairseq_birq.fault_tolerance import saving
from fairseq_birq.model import BirqModel
from tests.synth import write_manifest

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.runs"])
STAGES = [4, 8]  # target updates of latent_rq's run
METHODS = ("best_rq", "birq", "latent_rq")
UPDATES = 12  # two epochs of six batches
SPECIFIC = {
    "latent_rq": {
        "lr_scheduler": {"target_updates": STAGES, "warmup_updates": 1, "total_num_update": UPDATES},
        "model": {"targets": {"snapshot": {"target_updates": STAGES}}},
    }
}


def write_corpus(folder):
    """Twelve utterances of 1 to 3.2 s, most of which are cut by `max_seconds`, and two for validation."""
    write_manifest(folder, "train", seconds=[1.0 + 0.2 * index for index in range(12)])
    return write_manifest(folder, "valid", seconds=[1.0, 1.5])


def settings(repository, method, corpus, save_dir, *changes):
    """The configuration of a run of `UPDATES` updates that saves after every second one."""
    recipe = yaml.safe_load((repository / "examples" / method / "debug.yaml").read_text())
    fixed = {
        "common": {"user_dir": None, "cpu": True},
        "checkpoint": {"save_dir": str(save_dir), "save_interval_updates": 2, "keep_interval_updates": 2},
        "task": {"data": str(corpus), "max_seconds": 1.5},
        "dataset": {"max_tokens": 48000},
        "optimization": {"max_update": UPDATES},
    }
    return OmegaConf.to_container(OmegaConf.merge(recipe, fixed, SPECIFIC.get(method, {}), *changes))


def start(cfg, log, before=None):
    """A process that trains as `cfg` says and appends its output to the file `log`.

    `before`, a function of a module, is called in it first.
    """
    process = CONTEXT.Process(target=_train, args=(cfg, str(log), before))
    process.start()
    return process


def train(cfg, log, before=None, status=0):
    """The same to its end; what it wrote. Fails where the exit status differs."""
    done = start(cfg, log, before)
    done.join()
    output = Path(log).read_text()
    assert done.exitcode == status, (done.exitcode, output[-3000:])
    return output


def _train(cfg, log, before):
    os.setsid()  # so that a test can signal the process with its workers
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, force=True, format="%(asctime)s | %(name)s | %(message)s")
    multiprocessing.set_start_method("fork", force=True)  # of workers, as in the command
    torch.set_num_threads(1)
    if before is not None:
        before()
    whole = OmegaConf.merge(OmegaConf.structured(FairseqConfig), cfg)
    OmegaConf.set_struct(whole, True)  # as hydra's: fairseq 0.12.2 takes a missing `base_layers` for None else
    call_main(whole, main)


def gloo(rank, world_size, port):
    """Changes that make a run one of several processes."""
    parts = {"distributed_rank": rank, "distributed_world_size": world_size, "distributed_backend": "gloo"}
    parts.update(distributed_init_method=f"tcp://127.0.0.1:{port}", distributed_no_spawn=True, ddp_backend="legacy_ddp")
    return {"distributed_training": parts}


def signal_at(update, number):
    """Send the process and its workers a signal while it makes the update after `update`."""
    forward = BirqCriterion.forward

    def signalled(self, model, sample, reduce=True):
        if self.training and model.num_updates == update:
            os.killpg(os.getpgid(0), number)
        return forward(self, model, sample, reduce)

    BirqCriterion.forward = signalled


def poison(updates):
    """Not-a-numbers enter the model once in each of the updates after these."""
    forward, left = BirqModel.forward, set(updates)
    torch.Tensor.cuda = lambda self: self  # which fairseq calls after an overflow of fp16, with a GPU or without

    def poisoned(self, waveform, *args, **kwargs):
        bad = self.training and self.num_updates in left
        left.discard(self.num_updates if bad else None)
        return forward(self, waveform * float("nan") if bad else waveform, *args, **kwargs)

    BirqModel.forward = poisoned


def slow_saving(seconds=0.1):
    """Half of a checkpoint is on the disk for a while before the other half is."""
    dump = torch.save

    def slowly(content, file):
        file.write(content[: len(content) // 2])
        file.flush()
        time.sleep(seconds)
        file.write(content[len(content) // 2 :])

    def save(obj, file):
        memory = io.BytesIO()
        dump(obj, memory)
        slowly(memory.getvalue(), file)

    def copy(source, target):
        with open(target, "wb") as file:
            slowly(Path(source).read_bytes(), file)

    torch.save, saving.shutil.copyfile = save, copy


def limit_file_size(limit=60_000):
    """Stands for a full disk: a write past the limit fails."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def last_checkpoint(save_dir):
    return torch.load(str(Path(save_dir) / "checkpoint_last.pt"), map_location="cpu", weights_only=True)


def state(save_dir):
    """What must be equal, bit for bit, in two runs that trained alike; the learning rate is in the optimizer's state.

    Not the best validation loss that fairseq's schedules keep: fairseq saves it before it is renewed.
    """
    checkpoint = last_checkpoint(save_dir)
    kept = {key: checkpoint[key] for key in ("model", "last_optimizer_state")}
    place = checkpoint["extra_state"]["train_iterator"]
    return {**kept, "updates": checkpoint["optimizer_history"][-1]["num_updates"], "place": place}


def assert_same(first, second, path=""):
    """Checkpoint contents, bit for bit."""
    if isinstance(first, dict):
        assert first.keys() == second.keys(), path
        for key in first:
            assert_same(first[key], second[key], f"{path}/{key}")
    elif torch.is_tensor(first):
        assert torch.equal(first, second), path
    else:
        assert first == second, path
