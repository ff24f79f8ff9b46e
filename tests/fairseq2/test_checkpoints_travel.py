"""Models of fairseq's side in fairseq2: from `birq-export`, from a card by its name, and straight from a checkpoint.

The way back, and every tool that reads a run of fairseq2, is in tests/unit/test_fairseq2_files.py and
tests/unit/tools/export/test_fairseqs.py; runs that fairseq2 itself wrote in test_commands.py.
"""

import os
import subprocess
import sys

import pytest
import torch
from fairseq2.device import CPU
from fairseq2.gang import create_fake_gangs
from fairseq2.models import ModelFamily

from fairseq_birq.checkpoint import load
from fairseq_birq.cli.export import main as birq_export
from fairseq_birq.errors import UserError
from fairseq_birq.fairseq2.ctc_family import CtcConfig
from fairseq_birq.settings import merged, to_dict
from tests.fixtures.audio import waveform_batch
from tests.fixtures.fairseq2.checkpoints import SYMBOLS, write_birq, write_ctc

WRITERS = {"birq": write_birq, "birq_ctc": write_ctc}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint of each model as fairseq writes it (birq.pt, birq_ctc.pt), and each as `birq-export` writes it."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for name, write in WRITERS.items():
        write(folder / f"{name}.pt")
        assert birq_export([str(folder / f"{name}.pt"), str(folder / f"my-{name}"), "--to", "fairseq2"]) == 0
    return folder


def config_of(path):
    """The settings of a checkpoint as fairseq2 has them from elsewhere."""
    config, _ = load(path)
    return CtcConfig(**vars(config), symbols=SYMBOLS) if "upsample" in vars(config) else config


def load_by(resolver, family, path, config):
    gangs = create_fake_gangs(CPU)
    family = resolver.resolve(ModelFamily, key=family)
    return family.load_custom_model(path, config, gangs, torch.float32, load_rank0_only=True, mmap=False, restrict=None)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("path", ["{}.pt", "my-{}/step_{}/model"])
def test_fairseq2_loads_a_model_of_fairseqs_side(resolver, folder, name, path):
    config = config_of(folder / f"{name}.pt")
    model = load_by(resolver, name, folder / path.format(name, 3 if name == "birq" else 7), config)
    wanted, found = load(folder / f"{name}.pt")[1], type(model).__mro__[2].state_dict(model)
    assert wanted.keys() == found.keys()
    assert all(torch.equal(value, found[key]) if torch.is_tensor(value) else value == found[key] for key, value in wanted.items())
    if name == "birq":
        assert model.targets["snapshot"].stage == 1 and found["targets.snapshot._extra_state"]["num_updates"] == 3


def test_a_card_finds_the_model_by_its_name(folder, tmp_path):
    """In a process of its own, with the command that lists all models, and with `load_model`."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, torch, fairseq2\n"
        "from fairseq_birq.fairseq2 import register\n"
        "fairseq2.init_fairseq2(extras=register)\n"
        "from fairseq2.models.hub import load_model\n"
        "model = load_model('my-birq_ctc')\n"
        "print('letters', model.symbols)\n"
        "from fairseq2.assets.cli import _main\n"
        "sys.argv = ['fairseq2.assets', 'list', '--kind', 'model']\n"
        "_main()\n"
    )
    environment = {**os.environ, "FAIRSEQ2_USER_ASSET_DIR": str(folder / "my-birq_ctc/card.yaml")}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"letters {SYMBOLS}" in done.stdout and "my-birq_ctc" in done.stdout.split("letters")[1]


def test_foreign_and_hostile_files_are_sentences_or_refused(resolver, folder, tmp_path):
    from fairseq2.model_checkpoint import CorruptModelCheckpointError

    torch.save({"cfg": {"model": {"_name": "wav2vec2"}}, "model": {}}, tmp_path / "other.pt")
    config = config_of(folder / "birq_ctc.pt")
    with pytest.raises(UserError, match="'wav2vec2', not of birq or birq_ctc"):
        load_by(resolver, "birq_ctc", tmp_path / "other.pt", config)
    touched = tmp_path / "touched"
    torch.save({"a": Touches(touched)}, tmp_path / "hostile.pt")
    touched.unlink(missing_ok=True)
    with pytest.raises(CorruptModelCheckpointError):
        load_by(resolver, "birq_ctc", tmp_path / "hostile.pt", config)
    assert not touched.exists()
    with pytest.raises(UserError, match="symbols` is empty"):
        load_by(resolver, "birq_ctc", folder / "birq_ctc.pt", merged(config, {"symbols": []}))


def test_scores_are_those_of_fairseqs_side(resolver, folder):
    model = load_by(resolver, "birq_ctc", folder / "birq_ctc.pt", config_of(folder / "birq_ctc.pt")).eval()
    waveform, padding_mask, _ = waveform_batch(1.0, 0.8)
    wanted = write_ctc(folder / "again.pt").eval()(waveform, padding_mask)
    assert torch.equal(model(waveform, padding_mask).logits, wanted.logits)
    assert to_dict(config_of(folder / "again.pt")) == to_dict(config_of(folder / "birq_ctc.pt"))


class Touches:
    """Pickles into code that makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")
