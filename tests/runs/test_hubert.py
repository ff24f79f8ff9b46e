"""HuBERT's rounds as a user runs them: `run.sh` with stand-ins for the programs, and with the real ones."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from fairseq_birq.data.frame_labels import LabelStore
from tests.fixtures.manifests import write_manifest

RECIPES = ["debug", "librispeech_base", "mboshi_small"]


@pytest.fixture
def corpus(tmp_path):
    write_manifest(tmp_path / "corpus", "train", seconds=[1.0 + 0.2 * index for index in range(8)])
    return write_manifest(tmp_path / "corpus", "valid", seconds=[1.0, 1.5])


def program(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(0o755)


def rounds(repository, tmp_path, *arguments, **environment):
    path = f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": path, **environment}
    command = [str(repository / "examples/hubert/run.sh"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)


def test_recipes_are_those_of_relabelling_but_for_the_codes(repository):
    assert sorted(path.stem for path in (repository / "examples" / "hubert").glob("*.yaml")) == RECIPES
    for name in RECIPES:
        folders = (repository / "examples" / method / f"{name}.yaml" for method in ("hubert", "relabelling"))
        ours, theirs = (yaml.safe_load(path.read_text()) for path in folders)
        quantizers = ours["model"].pop("quantizer"), theirs["model"].pop("quantizer")
        assert ours == theirs and quantizers[0] == {
            **quantizers[1], "num_codebooks": 1, "codebook_size": 16 if name == "debug" else 100
        }  # fmt: skip


@pytest.mark.parametrize("config", RECIPES)
def test_the_rounds_follow_each_other_and_none_is_done_twice(repository, corpus, tmp_path, config):
    program(tmp_path / "bin" / "birq-labels", f'echo "label $*" >>{tmp_path}/said')
    save_dir = 'for a in "$@"; do case $a in checkpoint.save_dir=*) d=${a#*=};; esac; done'
    fails = f'mkdir -p "$d"; [ ! -e {tmp_path}/broken_"$(basename "$d")" ]'
    program(tmp_path / "bin" / "fairseq-hydra-train", f'echo "train $*" >>{tmp_path}/said; {save_dir}; {fails}')
    settings, out = dict(CONFIG=config, SHARDS="2", SPLITS="train valid", SEED="3"), tmp_path / "out"
    (tmp_path / "broken_round2").touch()
    assert rounds(repository, tmp_path, corpus, "out", 2, "common.cpu=true", **settings).returncode != 0
    (tmp_path / "broken_round2").unlink()
    assert rounds(repository, tmp_path, corpus, "out", 2, "common.cpu=true", **settings).returncode == 0
    lines = (tmp_path / "said").read_text().splitlines()
    labels, first = ["label"] * 3, "16" if config == "debug" else "100"
    assert [line.split()[0] for line in lines] == [*labels, "train", *labels, "train", *labels, *labels, "train"]
    expected = f"label {corpus}/train.tsv {out}/labels1/train --shard 0/2 --features mfcc --codebook-size {first} --seed 3"
    assert lines[0] == expected and lines[2] == f"label {corpus}/valid.tsv {out}/labels1/valid --like {out}/labels1/train"
    recipe = yaml.safe_load((repository / "examples" / "hubert" / f"{config}.yaml").read_text())["model"]
    second = re.fullmatch(
        r"label (\S+) (\S+) (\S+) --shard 1/2 --layer (\d+) --codebook kmeans --codebook-size (\d+) .*", lines[5]
    )
    assert second.groups()[:3] == (f"{out}/round1/checkpoint_last.pt", f"{corpus}/train.tsv", f"{out}/labels2/train")
    assert 1 <= int(second[4]) < recipe["encoder"]["num_layers"] and int(second[5]) > int(first)
    for line, name, size in ((lines[3], 1, first), (lines[-1], 2, second[5])):
        assert f"--config-dir {repository}/examples/hubert --config-name {config} " in line and line.endswith(" common.cpu=true")
        assert f" checkpoint.save_dir={out}/round{name} " in line
        assert f" model.targets.label_file.path={out}/labels{name} model.quantizer.codebook_size={size} " in line


@pytest.mark.parametrize(
    "arguments, config, part", [((), "debug", "usage: "), (("out", "0"), "debug", "usage: "), (("out", "1"), "x", "CONFIG must")]
)
def test_wrong_arguments_are_named_and_nothing_is_made(repository, corpus, tmp_path, arguments, config, part):
    done = rounds(repository, tmp_path, corpus, *arguments, CONFIG=config)
    assert done.returncode == 2 and part in done.stderr and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_both_rounds_on_real_programs(repository, corpus, tmp_path):
    pytest.importorskip("sklearn")
    program(tmp_path / "bin" / "birq-labels", f'exec {sys.executable} -m fairseq_birq.cli.labels "$@"')
    done = rounds(repository, tmp_path, corpus, "out", 2, "common.cpu=true", "optimization.max_update=2", CONFIG="debug")
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    stores = [LabelStore(tmp_path / "out" / f"labels{number}" / "train") for number in (1, 2)]
    assert [store.info.source["features"] for store in stores] == ["mfcc", "layer"]
    for number, store in enumerate(stores, start=1):
        path = tmp_path / "out" / f"round{number}" / "checkpoint_last.pt"
        model = torch.load(path, map_location="cpu", weights_only=True)["model"]
        assert model["targets.label_file._extra_state"]["fingerprint"] == store.info.codes_fingerprint
