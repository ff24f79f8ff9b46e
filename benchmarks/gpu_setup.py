"""What the stages of `benchmarks/gpu.py` share: a corpus of noise, a recipe's Trainer, batches, clocks and notes."""

import contextlib
import json
import math
import statistics
import time
from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path

import torch
import yaml

REPOSITORY = Path(__file__).resolve().parent.parent
SAMPLE_RATE, SECONDS, SHORTEST = 16000, 12.3, 0.85  # LibriSpeech's mean; the shortest utterance's share of it
PEAK_TFLOPS = 989  # an H100's bf16, dense, as its maker says
TINY = [
    "++model.encoder.dim=32",
    "++model.encoder.ffn_dim=64",
    "++model.encoder.num_heads=2",
    "++model.quantizer.codebook_size=64",
]


@dataclass
class Check:
    """One run of the check: where it computes and writes, how long it may take, and what it found."""

    device: str
    tiny: bool
    out: Path
    seconds: float
    results: dict = field(default_factory=dict)
    start: float = field(default_factory=time.perf_counter)
    deadline: float = float("inf")  # of the stage
    stage: str = ""

    @property
    def cuda(self) -> bool:
        return self.device == "cuda"

    def left(self) -> float:
        """Seconds until the stage must end."""
        return min(self.deadline, self.start + self.seconds) - time.perf_counter()

    def note(self, **values) -> None:
        """Add to the stage's results; they are in the file from now on."""
        self.results["stages"].setdefault(self.stage, {}).update(values)
        self.write()
        print(self.stage, json.dumps(values, default=str), flush=True)

    def write(self) -> None:
        (self.out / "gpu.json").write_text(json.dumps(self.results, indent=1, default=str) + "\n")

    def tried(self, name: str, call) -> None:
        """Note what `call()` returns under `name`, or how it failed; then free the memory."""
        try:
            found = call()
        except TimeoutError:
            raise
        except (Exception, SystemExit) as error:  # the doors end a process with a logged sentence
            found = {"failed": f"{type(error).__name__}: {str(error)[:300]}"}
        self.note(**{name: found})
        self.free()

    def sync(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def free(self) -> None:
        import gc

        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()

    def median_ms(self, call, warm: int = 3, rounds: int = 10) -> float:
        """Of the wall, with the device's queue empty before and after each call."""
        times = []
        for index in range((1 if self.tiny else warm) + (1 if self.tiny else rounds)):
            self.sync()
            begin = time.perf_counter()
            call()
            self.sync()
            if index >= (1 if self.tiny else warm):
                times.append(1e3 * (time.perf_counter() - begin))
        return round(statistics.median(times), 3)

    def recipe(self, name: str, *overrides):
        """The composed configuration of `examples/<name>`, for one process on this device, narrowed where the check is tiny."""
        from fairseq.utils import import_user_module

        user_dir = REPOSITORY / "fairseq_birq"
        import_user_module(Namespace(user_dir=str(user_dir)))
        from fairseq_birq.tools.doctor.config import Launch, compose

        fixed = [f"common.user_dir={user_dir}", f"task.data={corpus(self)}", f"checkpoint.save_dir={self.out}/run"]
        fixed += ["dataset.train_subset=train", "dataset.valid_subset=valid", "dataset.num_workers=0"]
        fixed += ["distributed_training.distributed_world_size=1"]
        fixed += [one for one in overrides if not one.startswith("++")]
        cfg = compose(Launch(REPOSITORY / "examples" / name, fixed))
        changes = [one for one in overrides if one.startswith("++")] + ([] if self.cuda else ["++common.cpu=true"])
        for change in changes + (TINY if self.tiny and "debug" not in name else []):
            add(cfg, *change[2:].split("=", 1))
        return cfg


def add(cfg, key: str, value: str) -> None:
    """`++key=value`, which the older hydra does not know."""
    from omegaconf import open_dict

    *parents, last = key.split(".")
    with open_dict(cfg):
        for parent in parents:
            cfg = cfg[parent]
        cfg[last] = yaml.safe_load(value)


def corpus(check: Check) -> Path:
    """A folder with FLAC files of noise, sorted by length, the longest last; written once."""
    import soundfile

    folder = check.out / "corpus"
    if (folder / "train.tsv").exists():
        return folder
    folder.mkdir(parents=True)
    count, seconds = (6, 1.5) if check.tiny else (128, SECONDS)
    generator, rows = torch.Generator().manual_seed(0), []
    for index, share in enumerate(torch.linspace(SHORTEST, 1.0, count).tolist()):
        noise = 0.1 * torch.randn(int(share * seconds * SAMPLE_RATE), generator=generator)
        soundfile.write(str(folder / f"{index}.flac"), noise.numpy(), SAMPLE_RATE)
        rows.append(f"{index}.flac\t{len(noise)}")
    for split in ("train", "valid"):
        (folder / f"{split}.tsv").write_text("\n".join([str(folder), *rows]) + "\n")
    return folder


def build_trainer(cfg, num_updates: int = 200000):
    """As fairseq's command builds it up to the first update; at an update where every target source is at work."""
    from fairseq import checkpoint_utils, tasks
    from fairseq.logging import metrics
    from fairseq.trainer import Trainer

    metrics.reset()  # histograms of other runs' codebooks
    Path(cfg.checkpoint.save_dir).mkdir(parents=True, exist_ok=True)
    task = tasks.setup_task(cfg.task)
    torch.manual_seed(cfg.common.seed)
    trainer = Trainer(cfg, task, task.build_model(cfg.model), task.build_criterion(cfg.criterion))
    checkpoint_utils.load_checkpoint(cfg.checkpoint, trainer)  # there is none; it loads the data and arms the run
    trainer.set_num_updates(num_updates)
    return trainer


def make_batch(trainer, count: int, longest: int = -1) -> dict:
    """`count` neighbours of the corpus, the last of them row `longest`, as the collater makes them, in pinned memory on a GPU."""
    dataset = trainer.task.dataset(trainer.cfg.dataset.train_subset)
    end = len(dataset) if longest < 0 else longest + 1
    batch = dataset.collater([dataset[row] for row in range(max(0, end - count), end)])
    if trainer.cuda:
        from fairseq.utils import apply_to_sample

        batch = apply_to_sample(lambda tensor: tensor.pin_memory(), batch)
    return batch


def update(trainer, *batches):
    """One update, logged as in training; the loss, or None where it is no number."""
    from fairseq.logging import metrics

    with metrics.aggregate("train"), metrics.aggregate("train_inner"):
        found = trainer.train_step(list(batches))
    loss = float(found["loss"]) if found else float("nan")
    return loss if math.isfinite(loss) else None


@contextlib.contextmanager
def bad_in(trainer, updates):
    """The loss is not a number in these updates."""
    forward = trainer.criterion.forward

    def bad(model, sample, reduce=True):
        loss, size, logged = forward(model, sample, reduce)
        return (loss * float("nan") if trainer.get_num_updates() in updates else loss), size, logged

    trainer.criterion.forward = bad
    try:
        yield
    finally:
        trainer.criterion.forward = forward


def tflop_of(trainer, batch) -> float:
    """Of the matrix products of one update, forward and backward, as torch counts them; not of convolutions."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        update(trainer, batch)
    counted = counter.get_flop_counts()["Global"].items()
    return sum(flops for name, flops in counted if "convolution" not in str(name)) / 1e12
