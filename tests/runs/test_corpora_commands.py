"""Shards and mixtures through the real command line."""

import re

import pytest
import torch

from tests.fixtures.manifests import write_manifest
from tests.fixtures.training_commands import command, logged, train, weights


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpora")
    for name, count in [("a", 6), ("b", 3)]:
        write_manifest(folder / name, "train", seconds=[1.0 + 0.1 * index for index in range(count)])
        write_manifest(folder / name, "valid", seconds=[1.0])
    return folder


def mixture(repository, corpora, save_dir, *overrides):
    settings = ["+task.corpora.a=a", "+task.corpora.b=b", "task.sampling_alpha=0", "task.max_seconds=0.9"]
    return command(repository, "best_rq", corpora, save_dir, "dataset.max_tokens=40000", *settings, *overrides)


def test_a_mixture_trains_and_says_its_shares(repository, corpora, tmp_path):
    output = train(mixture(repository, corpora, tmp_path / "run"), tmp_path)
    assert [int(entry["num_updates"]) for entry in logged(output)] == [1, 2, 3]
    assert len(re.findall(r"corpus [ab]: 0.00 h, weight 1 \(hours\^0\), 50.0 % of the audio", output)) == 2


def test_shards_take_turns_by_epochs(repository, corpora, tmp_path):
    folders = f"{corpora}/a:{corpora}/b"
    arguments = command(repository, "best_rq", folders, tmp_path / "run", "dataset.max_tokens=1000000")
    output = train(arguments, tmp_path)
    assert re.findall("loading train data for epoch ([0-9])", output)[:3] == ["1", "2", "3"]
    assert [float(entry["bsz"]) for entry in logged(output)] == [6, 3, 6]


@pytest.mark.slow
def test_a_mixture_goes_on_in_the_middle_of_an_epoch(repository, corpora, tmp_path):
    for folder, updates in [("whole", 9), ("parts", 4), ("parts", 9)]:
        train(mixture(repository, corpora, tmp_path / folder, f"optimization.max_update={updates}"), tmp_path)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[key], parts[key]) for key in whole if torch.is_tensor(whole[key]))
