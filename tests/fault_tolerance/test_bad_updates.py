"""Which updates are bad ones; whole runs with bad updates are in `test_resuming.py`."""

from types import SimpleNamespace

import pytest
import torch

from fairseq_birq.errors import UserError
from fairseq_birq.fault_tolerance.bad_updates import guard


class Trainer:
    """Stands for fairseq's: its next gradient norm is `norm`, or is raised."""

    device, data_parallel_rank = "cpu", 0

    def __init__(self, folder, allowed=1, amp=False):
        files = SimpleNamespace(audio_path=lambda id_: f"{id_}.flac")
        self.task = SimpleNamespace(cfg=SimpleNamespace(max_bad_updates=allowed), dataset=lambda split: files)
        part = SimpleNamespace
        self.cfg = part(common=part(amp=amp), checkpoint=part(save_dir=str(folder)), dataset=part(train_subset="train"))
        self.zeroed = 0
        guard(self)
        self.task.bad_updates.watched(lambda model, sample: (torch.tensor(1.0), 1, {}))(None, {"id": torch.tensor([3])})

    def clip_grad_norm(self, clip_norm):
        if isinstance(self.norm, Exception):
            raise self.norm
        return torch.tensor(self.norm)

    def get_num_updates(self):
        return 6

    def zero_grad(self):
        self.zeroed += 1


@pytest.mark.parametrize("norm", [float("nan"), float("inf"), FloatingPointError("Minimum loss scale reached")])
def test_a_norm_that_is_not_finite_is_counted_until_there_are_too_many(tmp_path, norm):
    trainer = Trainer(tmp_path)
    trainer.norm = norm
    for count in (1, 2):
        trainer.task.bad_updates.check()
        assert trainer.clip_grad_norm(1.0) == 0 and trainer.zeroed == trainer.task.bad_updates.count == count
    assert trainer.task.bad_updates.skipping
    with pytest.raises(UserError, match="2 updates .* `task.max_bad_updates` allows 1"):
        trainer.task.bad_updates.check()
    assert '"files": ["3.flac"]' in (tmp_path / "bad_updates.jsonl").read_text()
    trainer.norm = 2.0
    assert trainer.clip_grad_norm(1.0) == 2 and not trainer.task.bad_updates.skipping and trainer.zeroed == 2


@pytest.mark.parametrize("amp, norm", [(False, OverflowError("loss scale")), (True, float("inf"))])
def test_an_overflow_of_the_loss_scale_is_fairseqs_own_matter(tmp_path, amp, norm):
    trainer = Trainer(tmp_path, amp=amp)
    trainer.norm = norm
    if amp:
        assert trainer.clip_grad_norm(1.0) == float("inf")
    else:
        with pytest.raises(OverflowError):
            trainer.clip_grad_norm(1.0)
    assert trainer.task.bad_updates.count == trainer.zeroed == 0 and not trainer.task.bad_updates.batches


def test_a_loss_that_is_not_finite_has_no_finite_gradient(tmp_path):
    weight = torch.ones(3, requires_grad=True)
    watched = Trainer(tmp_path).task.bad_updates.watched(lambda model, sample: (sample["loss"], 1, {}))
    for offset, finite in ((0.0, True), (float("inf"), False)):
        loss, _, _ = watched(None, {"id": torch.tensor([0]), "loss": weight.sum() + offset})
        (gradient,) = torch.autograd.grad(loss, weight)
        assert bool(torch.isfinite(gradient).all()) == finite
    assert gradient.isnan().all()
