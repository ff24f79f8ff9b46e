"""Averages of checkpoints, against NumPy's, and what must not be averaged."""

import numpy as np
import pytest
import torch

from fairseq_birq.checkpoint import load_encoder
from fairseq_birq.cli.average import main
from fairseq_birq.model import BirqModel
from tests.fixtures.checkpoints import write_birq_checkpoint

EARLIER = "tests/fixtures/earlier_versions"


def write(path, updates, seed, **settings):
    torch.manual_seed(seed)
    write_birq_checkpoint(path, settings)
    content = torch.load(str(path), weights_only=True)
    content.update(optimizer_history=[{"num_updates": updates}], last_optimizer_state={"state": {}})
    torch.save(content, str(path))
    return content["model"]


def test_weights_are_the_mean_and_all_else_is_the_newest_ones(tmp_path, capsys):
    updates = {"a.pt": 30, "b.pt": 50, "c.pt": 40}
    states = [write(tmp_path / name, count, seed) for seed, (name, count) in enumerate(updates.items())]
    assert main([str(tmp_path / "out.pt"), *[str(tmp_path / name) for name in updates]]) == 0
    captured = capsys.readouterr()
    assert "mean of 3 checkpoints, after 30, 50, 40 updates" in captured.out and "average: 3 of 3 checkpoints" in captured.err
    content = torch.load(str(tmp_path / "out.pt"), weights_only=True)
    assert content["optimizer_history"][-1]["num_updates"] == 50 and content["last_optimizer_state"] is None
    names = [name for name, value in states[0].items() if torch.is_tensor(value) and value.is_floating_point()]
    assert len(names) > 20
    for name in names:
        mean = np.mean([state[name].numpy().astype(np.float64) for state in states], axis=0)
        assert np.allclose(content["model"][name].numpy(), mean, rtol=1e-6, atol=1e-7), name
    assert load_encoder(tmp_path / "out.pt") and BirqModel.from_checkpoint(tmp_path / "out.pt")


def test_a_fine_tuned_checkpoint_averaged_with_itself_stays_what_it_was(tmp_path, repository):
    path = str(repository / EARLIER / "finetune.pt")
    assert main([str(tmp_path / "out.pt"), path, path]) == 0
    before, after = (torch.load(str(name), weights_only=True)["model"] for name in (path, tmp_path / "out.pt"))
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items() if torch.is_tensor(value))


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"quantizer": {"codebook_size": 16, "codebook_dim": 4, "seed": 2}}, "have different targets"),
        ({"quantizer": {"codebook_size": 8, "codebook_dim": 4}}, "are of different models"),
    ],
)
def test_checkpoints_that_do_not_fit_have_no_mean(tmp_path, capsys, settings, said):
    write(tmp_path / "a.pt", 10, 0)
    write(tmp_path / "b.pt", 20, 1, **settings)
    assert main([str(tmp_path / "out.pt"), str(tmp_path / "a.pt"), str(tmp_path / "b.pt")]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out.pt").exists()


def test_one_checkpoint_and_none_of_ours_are_mistakes(tmp_path, capsys):
    write(tmp_path / "a.pt", 10, 0)
    torch.save({"model": {}, "cfg": {"model": {"_name": "hubert"}}}, str(tmp_path / "h.pt"))
    assert main([str(tmp_path / "out.pt"), str(tmp_path / "a.pt")]) == 2
    assert main([str(tmp_path / "out.pt"), str(tmp_path / "a.pt"), str(tmp_path / "h.pt")]) == 2
    assert main([str(tmp_path / "out.pt"), str(tmp_path / "a.pt"), str(tmp_path / "none.pt")]) == 2
    errors = capsys.readouterr().err
    assert "at least two" in errors and "'hubert'" in errors and "does not exist" in errors and "Traceback" not in errors
