"""Which updates are bad ones; whole runs with bad updates are in `test_resuming.py`."""

from types import SimpleNamespace

import pytest
import torch
from fairseq.dataclass.configs import FairseqConfig
from fairseq.optim.fp16_optimizer import FP16Optimizer, MemoryEfficientFP16Optimizer
from omegaconf import OmegaConf

from fairseq_birq.errors import UserError
from fairseq_birq.patches.run_state import RunState
from fairseq_birq.patches.trainer import make_careful


class Trainer:
    """Stands for fairseq's: its next gradient norm is `norm`, or is raised."""

    device, optimizer = "cpu", None

    def __init__(self, folder, allowed=1):
        files = SimpleNamespace(audio_path=lambda id_: f"{id_}.flac")
        self.task = SimpleNamespace(run=RunState(), dataset=lambda split: files)
        self.cfg = SimpleNamespace(dataset=SimpleNamespace(train_subset="train"))
        self.zeroed = 0
        make_careful(self)
        self.task.run.begin(allowed, str(folder), process=0)
        self.task.run.leave_request.forget()
        self.task.run.bad_updates.watched(lambda model, sample: (torch.tensor(1.0), 1, {}))(None, {"id": torch.tensor([3])})

    def clip_grad_norm(self, clip_norm):
        if self.optimizer is not None:
            return self.optimizer.clip_grad_norm(clip_norm)
        if isinstance(self.norm, Exception):
            raise self.norm
        return torch.tensor(self.norm)

    def get_num_updates(self):
        return 6

    def zero_grad(self):
        self.zeroed += 1
        if self.optimizer is not None:
            self.optimizer.zero_grad()


@pytest.mark.parametrize("norm", [float("nan"), float("inf"), FloatingPointError("Minimum loss scale reached")])
def test_a_norm_that_is_not_finite_is_counted_until_there_are_too_many(tmp_path, norm):
    trainer = Trainer(tmp_path)
    trainer.norm = norm
    for count in (1, 2):
        trainer.task.run.bad_updates.check()
        assert trainer.clip_grad_norm(1.0) == 0 and trainer.zeroed == trainer.task.run.bad_updates.count == count
    assert trainer.task.run.bad_updates.skipping
    with pytest.raises(UserError, match="2 updates .* `task.max_bad_updates` allows 1"):
        trainer.task.run.bad_updates.check()
    assert '"files": ["3.flac"]' in (tmp_path / "bad_updates.jsonl").read_text()
    trainer.norm = 2.0
    assert trainer.clip_grad_norm(1.0) == 2 and not trainer.task.run.bad_updates.skipping and trainer.zeroed == 2


def test_an_overflow_of_the_loss_scale_is_fairseqs_own_matter(tmp_path):
    trainer = Trainer(tmp_path)
    trainer.norm = OverflowError("loss scale")
    with pytest.raises(OverflowError):
        trainer.clip_grad_norm(1.0)
    assert trainer.task.run.bad_updates.count == trainer.zeroed == 0 and not trainer.task.run.bad_updates.batches


def test_a_loss_that_is_not_finite_has_no_finite_gradient(tmp_path):
    weight = torch.ones(3, requires_grad=True)
    watched = Trainer(tmp_path).task.run.bad_updates.watched(lambda model, sample: (sample["loss"], 1, {}))
    for offset, finite in ((0.0, True), (float("inf"), False)):
        loss, _, _ = watched(None, {"id": torch.tensor([0]), "loss": weight.sum() + offset})
        (gradient,) = torch.autograd.grad(loss, weight)
        assert bool(torch.isfinite(gradient).all()) == finite
    assert gradient.isnan().all()


def reduced_precision_optimizer(kind, precision):
    """fairseq's own around its Adam, and the one parameter that it trains."""
    common = {"fp16" if precision == torch.float16 else "bf16": True, "fp16_no_flatten_grads": True}
    cfg = OmegaConf.merge(OmegaConf.structured(FairseqConfig), {"common": common, "optimization": {"lr": [0.1]}})
    adam = {"_name": "adam", "lr": [0.1], "adam_betas": "(0.9,0.98)", "adam_eps": 1e-8, "weight_decay": 0.0}
    cfg.optimizer = OmegaConf.create({**adam, "use_old_adam": False, "fp16_adam_stats": False, "tpu": False})
    parameter = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0], dtype=precision))
    return kind.build_optimizer(cfg, [parameter]), parameter


@pytest.mark.parametrize(
    "kind, precision",
    [(FP16Optimizer, torch.bfloat16), (FP16Optimizer, torch.float16), (MemoryEfficientFP16Optimizer, torch.bfloat16)],
)
def test_training_after_bad_updates_is_as_if_they_had_not_been(tmp_path, kind, precision):
    """Two in a row; clipping is on, so that every update leaves a factor behind."""
    ends = {}
    for scales in ((1.0, 2.0), (1.0, float("nan"), float("inf"), 2.0)):
        trainer = Trainer(tmp_path, allowed=9)
        trainer.optimizer, parameter = reduced_precision_optimizer(kind, precision)
        for scale in scales:
            trainer.optimizer.zero_grad()
            trainer.optimizer.backward((parameter * scale).float().square().sum())
            try:
                trainer.clip_grad_norm(0.5)
            except OverflowError:  # the loss scale of fp16: fairseq makes nothing of the update
                trainer.optimizer.zero_grad()
                continue
            if not trainer.task.run.bad_updates.skipping:
                trainer.optimizer.step()
        ends[len(scales)] = parameter.detach().clone()
        assert trainer.task.run.bad_updates.count == (0 if precision == torch.float16 else len(scales) - 2)
    assert torch.isfinite(ends[4]).all() and torch.equal(ends[2], ends[4]) and not torch.equal(ends[2], torch.ones(3))
