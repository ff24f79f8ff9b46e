"""Equal error rate against scikit-learn's ROC curve; pairs."""

import numpy as np
import pytest
import torch

from fairseq_birq.errors import UserError
from fairseq_birq.tools.probes.verification import Verification, all_pairs, equal_error_rate, read_trials


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("shift", [0.0, 1.0, 2.5])
def test_equal_error_rate_is_where_scikit_learns_roc_curve_crosses(shift, ties):
    metrics, optimize = pytest.importorskip("sklearn.metrics"), pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(3)
    same = rng.random(400) < 0.3
    scores = rng.standard_normal(400) + shift * same
    scores = np.round(scores, 1) if ties else scores
    alarms, hits, _ = metrics.roc_curve(same, scores, drop_intermediate=False)
    expected = optimize.brentq(lambda x: 1.0 - x - np.interp(x, alarms, hits), 0.0, 1.0)
    assert equal_error_rate(torch.from_numpy(scores), torch.from_numpy(same)) == pytest.approx(100 * expected, abs=1e-6)


def test_error_rates_that_are_known():
    same = torch.tensor([True, True, False, False])
    assert equal_error_rate(torch.tensor([4.0, 3.0, 2.0, 1.0]), same) == 0
    assert equal_error_rate(torch.tensor([1.0, 2.0, 3.0, 4.0]), same) == 100
    assert equal_error_rate(torch.tensor([4.0, 2.0, 3.0, 1.0]), same) == 50
    assert equal_error_rate(torch.zeros(4), same) == 50


def test_pairs_are_all_or_a_fixed_draw():
    assert all_pairs(3).tolist() == [[0, 1], [0, 2], [1, 2]]
    drawn = all_pairs(1000, limit=500)
    assert 400 < len(drawn) <= 500 and (drawn[:, 0] < drawn[:, 1]).all() and np.array_equal(drawn, all_pairs(1000, limit=500))


def test_trials_are_those_of_the_file(tmp_path):
    (tmp_path / "test.trials").write_text("1 a.wav b.wav\n0 a.wav c.wav\n")
    names = {"a.wav": 0, "b.wav": 1, "c.wav": 2}
    trials = read_trials(tmp_path / "test.trials", names)
    assert trials.tolist() == [[0, 1, 1], [0, 2, 0]] and read_trials(tmp_path / "dev.trials", names) is None
    probe = Verification(2, 3, ["x"], 4, 40.0)
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    strangers = [torch.tensor([0])] * 3  # the speakers' names play no part here
    assert probe.measures([a, a, b], strangers, trials) == {"eer": 0.0}
    assert probe.measures([a, b, a], strangers, trials) == {"eer": 100.0}
    with pytest.raises(UserError, match="pairs of two"):
        probe.measures([a, b, a], strangers)


@pytest.mark.parametrize("line, part", [("2 a b", "must be `1 path path`"), ("1 a", "must be"), ("1 a x", "x is not in")])
def test_lines_that_are_no_trials_are_named(tmp_path, line, part):
    (tmp_path / "test.trials").write_text(f"1 a b\n{line}\n")
    with pytest.raises(UserError, match=f"test.trials, line 2: {part}"):
        read_trials(tmp_path / "test.trials", {"a": 0, "b": 1})
