"""The driver on a corpus of a few seconds: labels, training, measures, and nothing done twice."""

import json
import subprocess
import sys

import pytest
import yaml

from tests.fixtures.manifests import write_manifest

WORDS = ["ab ba", "ba ab", "aab b", "b baa", "ab ab", "ba ba"]


@pytest.fixture
def corpus(tmp_path):
    """Four splits of six utterances of 2 s, two speakers; `train` has the first four of `pretrain`, as in Mboshi."""
    folder = tmp_path / "corpus"
    for split in ("pretrain", "train", "dev", "test"):
        write_manifest(folder, split, [2.0] * 6, texts=WORDS)
        (folder / f"{split}.spk").write_text("one\ntwo\n" * 3)
        lines = ["utt_index\tpath\tstart_s\tend_s\tphone"]
        for row, words in enumerate(WORDS):
            for place, letter in enumerate(words * 2):
                lines.append(f"{row}\tx\t{0.16 * place}\t{0.16 * (place + 1)}\t{'SIL' if letter == ' ' else letter}")
        (folder / f"{split}.phn").write_text("\n".join(lines) + "\n")
    rows = (folder / "pretrain.tsv").read_text().splitlines()[:5]
    (folder / "train.tsv").write_text("\n".join(rows) + "\n")
    for suffix in ("spk", "ltr", "wrd"):
        lines = (folder / f"train.{suffix}").read_text().splitlines()[:4]
        (folder / f"train.{suffix}").write_text("\n".join(lines) + "\n")
    lines = [line for line in (folder / "train.phn").read_text().splitlines() if line[0] not in "45"]
    (folder / "train.phn").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.slow
def test_every_kind_of_row_is_trained_and_measured_once(repository, corpus, tmp_path):
    relabelling = {"config": "relabelling/mboshi_small"}
    rows = [
        {"name": "best_rq", "config": "best_rq/mboshi_small"},
        {**relabelling, "name": "letters", "labels": {"letters": {"pnmi": 0.5}}, "codebook": [1, 3]},
        {**relabelling, "name": "mfcc", "labels": {"fitted": {"of": "mfcc"}}, "codebook": [1, 5]},
        {**relabelling, "name": "layer", "labels": {"fitted": {"of": "best_rq", "layer": 2}}, "codebook": [1, 5]},
        {**relabelling, "name": "codes", "labels": {"codes": {"of": "best_rq", "layer": 2}}, "codebook": [2, 8]},
        {"name": "on", "config": "latent_rq/mboshi_small", "starts_from": "best_rq@1", "target_encoder": "best_rq@1"},
    ]
    stage = ["lr_scheduler.target_updates=[]", "lr_scheduler.warmup_updates=1", "model.targets.snapshot.target_updates=[]"]
    rows[-1]["overrides"] = stage
    overrides = ["optimization.max_update=2", "lr_scheduler.total_num_update=2", "dataset.num_workers=0"]
    spec = {"overrides": overrides, "splits": ["pretrain", "dev"], "seconds": 10, "rows": rows}
    spec["measured_on"] = ["dev", "test"]
    spec["runs"] = [{"seed": 1, "rows": [row["name"] for row in rows]}]
    (tmp_path / "bed.yaml").write_text(yaml.safe_dump(spec))
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "codebooks.json").write_text("{}")  # what other scripts measured lies there too
    command = [sys.executable, repository / "experiments" / "testbed.py", tmp_path / "bed.yaml", "--data", corpus]
    command += ["--out", tmp_path / "runs", "--jobs", 2]

    def run():
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "6 runs, 0 of them done" in run()
    found = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "results").glob("*-seed*.json")}
    assert set(found) == {f"{row['name']}-seed1" for row in rows}
    for name, result in found.items():
        assert result["updates"] == 2 and len(result["metrics"]["letter_probe"]) == 3
        assert len(result["metrics_dev"]["abx_within"]) == 3
        assert list(result["labels"]) == {"best_rq-seed1": ["raw_input"], "on-seed1": ["snapshot"]}.get(name, ["label_file"])
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    assert "6 runs, 6 of them done" in run()
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
