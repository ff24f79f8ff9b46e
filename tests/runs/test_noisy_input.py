"""Disturbed input through fairseq: the log says what was realised, and a run that goes on is the run that went through."""

import json
import re

import numpy as np
import pytest

from tests.fixtures import runs
from tests.fixtures.audio import write_audio
from tests.fixtures.manifests import write_manifest

KINDS = ("noise", "overlap", "reverberation", "volume")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    runs.write_corpus(folder)
    write_manifest(folder, "noises", seconds=(0.7, 2.0))
    room = np.exp(-np.arange(2000) / 400) * np.random.default_rng(0).standard_normal(2000) * 0.1
    write_audio(folder / "room.wav", np.concatenate([[0.9], room]))
    (folder / "rooms.tsv").write_text(f"{folder}\nroom.wav\t2001\n")
    return folder


def changes(corpus, updates, prob=0.5):
    disturbance = {kind: {"prob": prob} for kind in KINDS}
    disturbance["noise"]["manifest"], disturbance["reverberation"]["manifest"] = f"{corpus}/noises.tsv", f"{corpus}/rooms.tsv"
    disturbance["frequency_masks"] = {"count": 1, "max_bins": 10}
    task = {"speeds": [0.9, 1.0, 1.1]}
    return {"task": task, "model": {"disturbance": disturbance}, "optimization": {"max_update": updates}}


def logged(output):
    return [json.loads(line) for line in re.findall(r"\| train_inner \| (.*)", output)]


def test_a_run_logs_what_was_realised_and_goes_on_bit_for_bit(repository, corpus, tmp_path):
    outputs = {}
    for name, ends in {"whole": (4,), "parts": (2, 4)}.items():
        for updates in ends:
            cfg = runs.settings(repository, "birq", corpus, tmp_path / name, changes(corpus, updates))
            outputs[name] = runs.train(cfg, tmp_path / f"{name}.log")
    runs.assert_same(*(runs.state(tmp_path / name) for name in ("whole", "parts")))
    lines = logged(outputs["whole"])
    assert len(lines) == 4
    for line in lines:
        shares = [float(line[f"{kind}_share"]) for kind in KINDS]
        assert all(0 <= share <= 1 for share in shares) and max(shares) <= float(line["disturbed_share"]) <= 1
        assert 0 <= float(line["hidden_bins_share"]) <= 10 / 80
    found = {key: float(value) for line in lines for key, value in line.items() if value and key.endswith("snr_db")}
    assert 0 <= found["noise_snr_db"] <= 20 and -5 <= found["overlap_snr_db"] <= 5
    assert "disturbed_share" not in "".join(re.findall(r"\| valid \| .*", outputs["whole"]))


def test_a_manifest_that_is_not_there_stops_the_run_before_it_begins(repository, corpus, tmp_path):
    wrong = changes(corpus, 2)
    wrong["model"]["disturbance"]["noise"]["manifest"] = f"{corpus}/missing.tsv"
    cfg = runs.settings(repository, "birq", corpus, tmp_path / "run", wrong)
    output = runs.train(cfg, tmp_path / "log", status=2)
    assert "`model.disturbance.noise.manifest`" in output and "no such manifest" in output and "Traceback" not in output
