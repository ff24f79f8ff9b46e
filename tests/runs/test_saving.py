"""Checkpoints on a disk that is full: nothing half-written, the last good one stays."""

import subprocess
import sys

import pytest
import torch

from fairseq_birq.patches.saving import copy, save, whole_file

FULL_DISK = """
import resource, sys, torch
from fairseq import checkpoint_utils
from fairseq.file_io import PathManager
from fairseq_birq.patches.saving import whole_files
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
folder, step = sys.argv[1:]
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
