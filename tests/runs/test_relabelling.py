"""Staged relabelling as a user runs it: a round through fairseq's trainer, and `run.sh`, which does the rounds."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from fairseq.dataclass.configs import FairseqConfig
from fairseq_cli.train import main
from omegaconf import OmegaConf

import fairseq_birq.doors  # noqa: F401
from fairseq_birq.data.frame_labels import LabelStore, read_info
from fairseq_birq.tools.relabel.label_sources import SourceCodes
from fairseq_birq.tools.relabel.labelling import make
from tests.fixtures.manifests import write_corpus

SCRIPT = "examples/relabelling/run.sh"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def run(repository, corpus, tmp_path):
    """Train a debug recipe in this process; the checkpoint that it leaves."""

    def run(method, name, max_update, targets=None):
        recipe = yaml.safe_load((repository / "examples" / method / "debug.yaml").read_text())
        recipe["model"]["targets"].update(targets or {})
        fixed = {
            "common": {"user_dir": None, "cpu": True},
            "checkpoint": {"save_dir": str(tmp_path / name)},
            "task": {"data": str(corpus)},
            "optimization": {"max_update": max_update},
        }
        main(OmegaConf.merge(OmegaConf.structured(FairseqConfig), recipe, fixed))
        return torch.load(tmp_path / name / "checkpoint_last.pt", map_location="cpu", weights_only=True)

    return run


def tensors(checkpoint, kind):
    return {key: value for key, value in checkpoint[kind].items() if torch.is_tensor(value)}


def test_a_round_on_labels_of_the_raw_input_is_best_rq_bit_for_bit_and_resumes_so(run, corpus, tmp_path):
    online = run("best_rq", "online", max_update=6)
    for split in ("train", "valid"):
        given = (tmp_path / "online" / "checkpoint_last.pt", corpus / f"{split}.tsv", tmp_path / "labels" / split)
        make(*given, SourceCodes("raw_input"))
    labels = {"label_file": {"path": str(tmp_path / "labels")}}
    run("relabelling", "offline", max_update=3, targets=labels)
    offline = run("relabelling", "offline", max_update=6, targets=labels)
    ours = {key.replace("label_file", "raw_input"): value for key, value in tensors(offline, "model").items()}
    theirs = {key: value for key, value in tensors(online, "model").items() if not key.startswith("targets.")}
    assert ours.keys() == theirs.keys() and len(ours) > 20
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())
    optimizers = [list(run["last_optimizer_state"]["state"].values()) for run in (online, offline)]
    assert len(optimizers[0]) == len(optimizers[1]) > 20
    assert all(torch.equal(first["exp_avg_sq"], second["exp_avg_sq"]) for first, second in zip(*optimizers))
    assert online["extra_state"]["val_loss"] == offline["extra_state"]["val_loss"] > 0


def test_recipes_are_those_of_best_rq_but_for_the_labels(repository):
    recipes = sorted(path.name for path in (repository / "examples" / "relabelling").glob("*.yaml"))
    assert recipes == ["debug.yaml", "librispeech_base.yaml", "mboshi_small.yaml"]
    for name in recipes:
        ours, theirs = (yaml.safe_load((repository / "examples" / m / name).read_text()) for m in ("relabelling", "best_rq"))
        assert ours["model"].pop("targets") == {"use": ["label_file"], "label_file": {"path": "???"}}
        assert theirs["model"].pop("targets")["use"] == ["raw_input"]
        assert ours == theirs


def program(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(0o755)


def rounds(repository, tmp_path, *arguments, **environment):
    """Run the script with the programs of `tmp_path/bin` before all others."""
    path = f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": path, **environment}
    command = [str(repository / SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)


@pytest.fixture
def said(tmp_path):
    """Stand-ins for both programs, which write down their arguments; the training fails in `broken_round`."""
    program(tmp_path / "bin" / "birq-labels", f'echo "label $*" >>{tmp_path}/said')
    save_dir = 'for a in "$@"; do case $a in checkpoint.save_dir=*) d=${a#*=};; esac; done'
    fails = f'mkdir -p "$d"; [ ! -e {tmp_path}/broken_"$(basename "$d")" ]'
    program(tmp_path / "bin" / "fairseq-hydra-train", f'echo "train $*" >>{tmp_path}/said; {save_dir}; {fails}')
    return lambda: (tmp_path / "said").read_text().splitlines()


@pytest.mark.parametrize("config", ["debug", "mboshi_small", "librispeech_base"])
def test_the_rounds_follow_each_other_and_none_is_done_twice(repository, corpus, tmp_path, said, config):
    settings = dict(CONFIG=config, SHARDS="2", SPLITS="train valid")
    (tmp_path / "broken_round1").touch()
    assert rounds(repository, tmp_path, corpus, "out", 2, "common.cpu=true", **settings).returncode != 0
    stopped = said()
    (tmp_path / "broken_round1").unlink()
    assert rounds(repository, tmp_path, corpus, "out", 2, "common.cpu=true", **settings).returncode == 0
    lines, out = said(), tmp_path / "out"
    assert [line.split()[0] for line in stopped] == ["train", "label", "label", "label", "train"]
    assert [line.split()[0] for line in lines[5:]] == ["label", "label", "label", "train"] * 2
    trainings = [line for line in lines if line.startswith("train")]
    for line, name, method in zip(trainings, (0, 1, 1, 2), ("best_rq", *["relabelling"] * 3)):
        assert f"--config-dir {repository}/examples/{method} --config-name {config} " in line
        assert f" checkpoint.save_dir={out}/round{name} " in line and line.endswith(" common.cpu=true")
        assert (f"model.targets.label_file.path={out}/labels{name} " in line) == (name > 0)
    recipe = yaml.safe_load((repository / "examples" / "relabelling" / f"{config}.yaml").read_text())["model"]
    sizes = recipe["quantizer"]
    for index, line in enumerate(lines[-4:-2]):
        assert line.startswith(f"label {out}/round1/checkpoint_last.pt {corpus}/train.tsv {out}/labels2/train --shard {index}/2 ")
        assert line.endswith(f"--num-codebooks {sizes['num_codebooks']} --codebook-size {sizes['codebook_size']}")
        layer = int(line.split("--layer ")[1].split()[0])
        assert 1 <= layer < recipe["encoder"]["num_layers"]
    assert lines[-2].endswith(f"{corpus}/valid.tsv {out}/labels2/valid --like {out}/labels2/train")


def test_a_finished_run_can_stand_for_round_0(repository, corpus, tmp_path, said):
    (tmp_path / "birq.pt").touch()
    assert rounds(repository, tmp_path, corpus, "out", 2, CONFIG="debug", FROM="birq.pt").returncode == 0
    lines, out = said(), tmp_path / "out"
    assert [line.split()[0] for line in lines] == ["label", "label", "train"] * 2
    assert lines[0].startswith(f"label {tmp_path}/birq.pt ") and lines[3].startswith(f"label {out}/round1/checkpoint_last.pt ")


@pytest.mark.parametrize(
    "arguments, config, part",
    [
        ((), "debug", "usage: "),
        (("out",), "debug", "usage: "),
        (("out", "two"), "debug", "usage: "),
        (("out", "1"), "tiny", "CONFIG must be debug, .*, but is tiny"),
    ],
)
def test_wrong_arguments_are_named_and_nothing_is_made(repository, corpus, tmp_path, arguments, config, part):
    done = rounds(repository, tmp_path, corpus, *arguments, CONFIG=config)
    assert done.returncode == 2 and re.search(part, done.stderr)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_round_by_the_script_on_real_programs(repository, corpus, tmp_path):
    program(tmp_path / "bin" / "birq-labels", f'exec {sys.executable} -m fairseq_birq.cli.labels "$@"')
    overrides = ["common.cpu=true", "optimization.max_update=2"]
    done = rounds(repository, tmp_path, corpus, "out", 1, *overrides, CONFIG="debug", SHARDS="2")
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    store = LabelStore(tmp_path / "out" / "labels1" / "train")
    assert store.info.num_shards == 2 and store.info.source["layer"] == 1
    assert read_info(tmp_path / "out" / "labels1" / "valid").codes_fingerprint == store.info.codes_fingerprint
    model = torch.load(tmp_path / "out" / "round1" / "checkpoint_last.pt", map_location="cpu", weights_only=True)["model"]
    assert model["targets.label_file._extra_state"]["fingerprint"] == store.info.codes_fingerprint
