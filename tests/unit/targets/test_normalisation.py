"""Statistics of hidden states against NumPy's over all frames at once."""

import numpy as np
import pytest
import torch

from fairseq_birq.modules import held_statistics
from fairseq_birq.targets import normalisation
from fairseq_birq.targets.normalisation import MODES, HiddenNormalisation, batch_statistics

DIM = 6


def batches(count, frames=200, seed=0):
    """(frames, d) each, correlated, with another mean in every batch."""
    generator = np.random.default_rng(seed)
    mix = generator.normal(size=(DIM, DIM))
    return [generator.normal(size=(frames, DIM)) @ mix + 3.0 * generator.normal(size=DIM) for _ in range(count)]


def taken_in(norm, parts):
    for part in parts:
        norm.update(torch.from_numpy(part))
    return norm


@pytest.mark.parametrize("count", [1, 2, 7])
def test_batches_of_one_size_give_the_statistics_of_all_their_frames(count):
    parts = batches(count)
    norm = taken_in(HiddenNormalisation(DIM, "standardize", momentum=0.0), parts)
    joined = np.concatenate(parts)
    assert norm.mean.numpy() == pytest.approx(joined.mean(0), rel=1e-5)
    assert norm.second.numpy() == pytest.approx(joined.var(0), rel=1e-5)


def test_whitening_takes_the_covariance_of_all_frames():
    parts = batches(5)
    norm = taken_in(HiddenNormalisation(DIM, "whiten", momentum=0.0), parts)
    joined = np.concatenate(parts)
    assert norm.second.numpy() == pytest.approx(np.cov(joined, rowvar=False, bias=True), rel=1e-4, abs=1e-4)
    white = norm(torch.from_numpy(joined)).numpy()
    assert np.cov(white, rowvar=False, bias=True) == pytest.approx(np.eye(DIM), abs=1e-3)


def test_running_statistics_are_those_of_frames_weighted_by_age():
    momentum, parts = 0.25, batches(40)
    norm = taken_in(HiddenNormalisation(DIM, "standardize", momentum=momentum), parts)
    first = round(1 / momentum)  # so many batches weigh equally, and each later one takes its share
    ages = np.array([(1 - momentum) ** (len(parts) - max(index + 1, first)) for index in range(len(parts))])
    shares = ages * np.where(np.arange(len(parts)) < first, 1 / first, momentum)
    assert shares.sum() == pytest.approx(1.0)
    weights = np.repeat(shares / len(parts[0]), len(parts[0]))
    joined = np.concatenate(parts)
    mean = weights @ joined
    assert norm.mean.numpy() == pytest.approx(mean, rel=1e-4, abs=1e-5)
    assert norm.second.numpy() == pytest.approx(weights @ (joined - mean) ** 2, rel=1e-4)


@pytest.mark.parametrize("bad", [np.zeros((1, DIM)), np.full((5, DIM), np.nan)], ids=["one frame", "not finite"])
def test_what_has_no_statistics_changes_none(bad):
    norm = taken_in(HiddenNormalisation(DIM, "standardize"), batches(1))
    before = {key: value.clone() for key, value in norm.state_dict().items()}
    norm.update(torch.from_numpy(bad))
    assert all(torch.equal(before[key], value) for key, value in norm.state_dict().items())


@pytest.mark.parametrize("mode", MODES)
def test_autocast_changes_nothing(mode):
    """Backward is outside of it, as in fairseq."""

    def computed(autocast):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            norm = taken_in(HiddenNormalisation(DIM, mode), batches(2))
            x = torch.from_numpy(batches(1, seed=1)[0]).float().requires_grad_()
            y = norm.of_batch(x, x.detach())
        return y.detach(), torch.autograd.grad(y.cos().sum(), x)[0], norm.mean, norm.second

    expected, found = computed(False), computed(True)
    assert all(mine.dtype == theirs.dtype and torch.equal(mine, theirs) for mine, theirs in zip(found, expected))


class OtherProcess:
    """Stands for torch.distributed with a second process: what it would add comes when somebody waits."""

    def __init__(self, monkeypatch, frames):
        self.norm, self.frames, self.waits = HiddenNormalisation(DIM, "whiten"), iter(frames), 0
        monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.distributed, "all_reduce", self.all_reduce)

    def all_reduce(self, tensor, async_op=False):
        assert async_op, "forward would wait for the other process"
        self.tensor = tensor
        return self

    def wait(self):
        self.waits += 1
        self.tensor += self.norm._sums(torch.from_numpy(next(self.frames)))


ASKS = {
    "next batch": lambda norm: norm(torch.zeros(1, DIM)),
    "checkpoint": lambda norm: norm.state_dict(),
    "move": lambda norm: norm.to(torch.float32),
    "update": lambda norm: norm.update(torch.zeros(0, DIM)),
    "count": lambda norm: norm._has_seen(1),
}


@pytest.mark.parametrize("ask", ASKS)
def test_sums_of_several_processes_are_waited_for_when_somebody_asks_for_statistics(monkeypatch, ask):
    ours, others = batches(2, frames=50), batches(2, frames=80, seed=1)
    expected = taken_in(HiddenNormalisation(DIM, "whiten"), [np.concatenate(pair) for pair in zip(ours, others)])
    process = OtherProcess(monkeypatch, [*others, np.zeros((0, DIM))])
    norm = HiddenNormalisation(DIM, "whiten").train()
    norm.of_batch(torch.zeros(3, DIM), torch.from_numpy(ours[0]))  # its own statistics: the first batch waits
    assert process.waits == 1
    before = norm.mean.clone()
    norm.of_batch(torch.zeros(3, DIM), torch.from_numpy(ours[1]))
    assert process.waits == 1 and torch.equal(norm.mean, before)
    ASKS[ask](norm)
    assert process.waits == 2
    assert torch.equal(norm.num_batches, expected.num_batches)
    torch.testing.assert_close(norm.mean, expected.mean)
    torch.testing.assert_close(norm.second, expected.second)


def test_held_statistics_do_not_move():
    norm = taken_in(HiddenNormalisation(DIM, "standardize"), batches(1))
    before = norm.mean.clone()
    with held_statistics.held():
        taken_in(norm, batches(1, seed=1))
    assert torch.equal(norm.mean, before) and norm.num_batches == 1
    taken_in(norm, batches(1, seed=1))
    assert not torch.equal(norm.mean, before)


@pytest.mark.parametrize("mode", ["standardize+layer", "whiten"])
@pytest.mark.parametrize("processes", [1, 2])
def test_layers_together_have_the_statistics_of_each_alone_by_one_exchange(mode, processes, monkeypatch):
    parts = [torch.from_numpy(part) for part in batches(9)]
    parts[4] = torch.full_like(parts[4], torch.nan)
    together, alone = ([HiddenNormalisation(DIM, mode, max_batches=2) for _ in range(3)] for _ in range(2))
    for norm, *of_norm in zip(alone, *(parts[step : step + 3] for step in (0, 3, 6))):
        for part in of_norm:  # the last one comes too late but for the layer whose batch was bad
            norm.update(part)
    exchanges = []
    if processes == 2:
        monkeypatch.setattr(normalisation.distributed, "is_on", lambda: True)
        monkeypatch.setattr(
            normalisation.distributed, "begin_sum_over_processes", lambda x: exchanges.append(len(x)) or (lambda: x)
        )
    for step in (0, 3, 6):
        with batch_statistics(together, parts[step : step + 3].__getitem__):
            pass
    for ours, expected in zip(together, alone):
        state, other = ours.state_dict(), expected.state_dict()
        assert state["num_batches"] == 2 and all(torch.equal(state[key], other[key]) for key in other)
    assert exchanges == ([3, 3, 1] if processes == 2 else [])


def test_validation_takes_the_statistics_of_its_batch_and_forgets_them():
    (part,) = (torch.from_numpy(part) for part in batches(1))
    norms = [HiddenNormalisation(DIM, "standardize").eval() for _ in range(2)]
    with batch_statistics(norms, lambda index: part + index):
        assert [bool(norm(part).mean(0).abs().max() < 1e-6) for norm in norms] == [True, False]
    assert all(norm.num_batches == 0 and not norm.mean.any() for norm in norms)
