"""Whether a start goes on from the run's own checkpoint, begins with the file that it names, or is refused."""

import pytest
from fairseq.dataclass.configs import CheckpointConfig
from omegaconf import OmegaConf

from fairseq_birq.errors import UserError
from fairseq_birq.patches.first_checkpoint import LAST, goes_on, going_on, named_first


def start(folder, restore_file=LAST, **settings):
    return OmegaConf.structured(CheckpointConfig(save_dir=str(folder), restore_file=str(restore_file), **settings))


def run(checkpoint):
    """What the folder of a run holds that was started with these settings."""
    return {"updates": 10, "cfg": {"checkpoint": OmegaConf.to_container(checkpoint)}}


def test_a_run_goes_on_where_it_began_in_the_same_way(tmp_path):
    elsewhere = start(tmp_path / "run", tmp_path / "a.pt", reset_optimizer=True)
    assert goes_on(start(tmp_path / "run"), None) and goes_on(start(tmp_path / "run"), run(elsewhere))
    assert not goes_on(elsewhere, None)
    assert goes_on(elsewhere, run(elsewhere))
    loaded = going_on(elsewhere)
    assert loaded.restore_file == LAST and not loaded.reset_optimizer
    assert elsewhere.restore_file != LAST and elsewhere.reset_optimizer  # the run's own settings, which its checkpoints record


@pytest.mark.parametrize("changes", [{"restore_file": "/b.pt"}, {"reset_meters": True}, {"optimizer_overrides": "{'lr': 1}"}])
def test_a_run_that_began_differently_is_not_taken_for_this_one(tmp_path, changes):
    before = start(tmp_path / "run", **{"restore_file": "/a.pt", **changes})
    with pytest.raises(UserError, match="10 updates that did not begin with.*start it as it began .checkpoint.restore_file=/"):
        goes_on(start(tmp_path / "run", "/a.pt"), run(before))


def test_back_to_an_earlier_checkpoint_of_the_same_run_and_on_from_there(tmp_path):
    back = start(tmp_path, tmp_path / "checkpoint_1_4.pt")
    assert not goes_on(back, run(start(tmp_path)))
    assert goes_on(back, run(back))


@pytest.mark.parametrize("key", ["restore_file", "continue_once", "finetune_from_model"])
def test_a_named_checkpoint_must_be_there(tmp_path, key):
    path = tmp_path / "a.pt"
    named = start(tmp_path, **{key: str(path)})
    with pytest.raises(UserError, match=f"`checkpoint.{key}` is {path}, which does not exist"):
        named_first(named)
    path.touch()
    assert named_first(named) == str(path) and named_first(start(tmp_path)) is None
