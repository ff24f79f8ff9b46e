"""Checkpoints on a disk that is full: nothing half-written, the last good one stays."""

import os
import subprocess
import sys

import pytest
import torch

from fairseq_birq.patches.saving import copy, save, whole_file
from tests.fixtures import runs

FULL_DISK = """
import os, resource, sys, torch
from fairseq import checkpoint_utils
from fairseq.file_io import PathManager
from fairseq_birq.patches.saving import whole_files
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
folder, step = sys.argv[1:]
def no_links(*names):
    raise OSError("no hard links here")
os.link = no_links
with whole_files():
    if step == "save":
        checkpoint_utils.torch_persistent_save({"model": torch.zeros(1_000_000)}, f"{folder}/checkpoint_last.pt")
    else:
        PathManager.copy(f"{folder}/big.pt", f"{folder}/checkpoint_last.pt", overwrite=True)
"""


@pytest.mark.parametrize("step", ["save", "copy"])
def test_a_full_disk_leaves_the_last_checkpoint_and_no_rest(tmp_path, step):
    """The limit on file sizes stands for the disk: the same write fails at the same place."""
    save({"model": torch.ones(3)}, tmp_path / "checkpoint_last.pt")
    save({"model": torch.zeros(1_000_000)}, tmp_path / "big.pt")
    before = sorted(path.name for path in tmp_path.iterdir())
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path), step], capture_output=True, text=True)
    assert done.returncode == 2
    assert "could not write checkpoint" in done.stderr and "Traceback" not in done.stderr
    assert torch.load(tmp_path / "checkpoint_last.pt", weights_only=True)["model"].tolist() == [1, 1, 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_copy_is_the_file_and_an_interruption_leaves_the_old_one(tmp_path):
    (tmp_path / "a").write_bytes(b"new")
    (tmp_path / "b").write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        with whole_file(tmp_path / "b") as partial:
            open(partial, "wb").write(b"ne")
            raise KeyboardInterrupt
    assert (tmp_path / "b").read_bytes() == b"old"
    assert copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"new" and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("links", [True, False])
def test_further_names_of_a_checkpoint_cost_no_room_and_stay_as_they_are(tmp_path, monkeypatch, links):
    """Also where a process was killed between the two steps of a link, and where the file system has none."""
    if not links:
        monkeypatch.setattr(os, "link", lambda *names: (_ for _ in ()).throw(OSError("no hard links here")))
    first, last = tmp_path / "checkpoint_1_2.pt", tmp_path / "checkpoint_last.pt"
    save({"update": 2}, first)
    copy(first, last), copy(first, last)  # the same name again, as after a resume
    assert (first.stat().st_ino == last.stat().st_ino) == links
    if links:
        os.link(first, f"{last}.tmp")
    save({"update": 4}, last)
    save({"update": 6}, tmp_path / "checkpoint_1_6.pt")
    assert torch.load(first, weights_only=True) == {"update": 2} and torch.load(last, weights_only=True) == {"update": 4}
    copy(tmp_path / "checkpoint_1_6.pt", last)
    assert torch.load(first, weights_only=True) == {"update": 2} and torch.load(last, weights_only=True) == {"update": 6}
    assert not list(tmp_path.glob("*.tmp"))


def test_the_checkpoints_of_a_run_are_one_file_until_the_next_save(repository, tmp_path):
    corpus = runs.write_corpus(tmp_path / "corpus")
    for updates in (2, 4):
        cfg = runs.settings(repository, "best_rq", corpus, tmp_path / "run", {"optimization": {"max_update": updates}})
        runs.train(cfg, tmp_path / "log.txt")
        newest, last = tmp_path / "run" / f"checkpoint_1_{updates}.pt", tmp_path / "run" / "checkpoint_last.pt"
        assert newest.stat().st_ino == last.stat().st_ino and runs.state(tmp_path / "run")["updates"] == updates
    before = torch.load(tmp_path / "run" / "checkpoint_1_2.pt", weights_only=True)
    assert before["optimizer_history"][-1]["num_updates"] == 2
