"""The run in a folder, against the run that is to go on there."""

import shutil

import pytest
import torch
from omegaconf import OmegaConf

from fairseq_birq.tools.doctor.folders import check_folders
from tests.fixtures.earlier_versions import cases


@pytest.fixture(params=["best_rq", "finetune"])
def cfg(request, repository, tmp_path):
    """The configuration of a checkpoint, which is in its folder."""
    path = cases.FOLDER / f"{request.param}.pt"
    shutil.copy(path, tmp_path / "checkpoint_last.pt")
    made = OmegaConf.create(torch.load(str(path), map_location="cpu", weights_only=True)["cfg"])
    made.common.user_dir, made.checkpoint.save_dir = str(repository / "fairseq_birq"), str(tmp_path)
    return made


def problems(cfg):
    return [check.text for check in check_folders(cfg) if check.status == "problem"]


def test_a_folder_with_a_run_of_other_settings_is_a_problem_before(cfg, tmp_path):
    assert problems(cfg) == []
    cfg.optimization.max_update += 10
    assert problems(cfg) == []
    cfg.optimization.lr = [0.5]
    (text,) = problems(cfg)
    assert text.startswith(f"{tmp_path} holds a run with other settings: optimization.lr")
    cfg.task.resume = "changed"
    assert problems(cfg) == []


@pytest.mark.parametrize("cfg", ["finetune"], indirect=True)
def test_the_encoder_of_fine_tuning_is_the_checkpoints(cfg):
    began = cfg.model.initialized_from
    cfg.model.update(pretrained_path=began, initialized_from=None)
    cfg.model.encoder.dim = 512
    assert problems(cfg) == []
    cfg.model.pretrained_path = "/runs/a.pt"
    assert f"model.initialized_from {began} -> /runs/a.pt" in problems(cfg)[0]


def test_what_is_no_run_is_a_problem(cfg, tmp_path):
    torch.save({"model": {}}, str(tmp_path / "checkpoint_last.pt"))
    assert "is not a checkpoint of a training run" in problems(cfg)[0]
