from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from omegaconf import OmegaConf

from fairseq_birq.config import PretrainingTaskConfig
from fairseq_birq.tools.doctor.data import check_data, manifests_of, sampled_rows
from tests.fixtures.audio import tone, truncate, write_audio, write_nan_audio
from tests.fixtures.manifests import write_manifest


def settings(folder, max_tokens=None, train="train", **task):
    task = OmegaConf.merge(OmegaConf.structured(PretrainingTaskConfig), {"data": str(folder), **task})
    dataset = SimpleNamespace(train_subset=train, valid_subset="valid", disable_validation=True, max_tokens=max_tokens)
    return SimpleNamespace(task=task, dataset=dataset)


def lines(*arguments, **task):
    return {check.subject: check.line() for check in check_data(settings(*arguments, **task))}


def test_every_shard_and_corpus_is_looked_at(tmp_path):
    cfg = settings(f"{tmp_path}/a:{tmp_path}/b")
    cfg.dataset.disable_validation = False
    assert manifests_of(cfg) == [tmp_path / name for name in ("a/train.tsv", "b/train.tsv", "a/valid.tsv")]
    cfg = settings(tmp_path, corpora={"x": "a", "y": "/b"})
    assert manifests_of(cfg) == [tmp_path / "a" / "train.tsv", Path("/b/train.tsv")]


def test_good_audio_is_one_line_each(tmp_path):
    found = lines(write_manifest(tmp_path, seconds=(1.0, 2.0)))
    assert found["audio"] == "ok       audio        train.tsv: 2 of 2 rows read, all good"
    assert found["lengths"].endswith("train.tsv: 2 rows, 0.00 h, 1.00 to 2.00 s") and len(found) == 2


def test_a_corpus_that_moved_is_named_by_its_folder(tmp_path):
    """Labels and transcripts stay those of the manifest: nobody has to make it again."""
    path = write_manifest(tmp_path / "new", seconds=(1.0, 2.0)) / "train.tsv"
    path.write_text("\n".join(["/old/place", *path.read_text().splitlines()[1:]]))
    assert "there is no folder /old/place: if the audio has moved" in lines(tmp_path / "new")["audio"]


def test_every_kind_of_bad_audio_is_counted(tmp_path):
    write_manifest(tmp_path, seconds=[1.0] * 10)
    (tmp_path / "train" / "0001.flac").unlink()
    (tmp_path / "train" / "0002.flac").write_bytes(b"")
    truncate(tmp_path / "train" / "0003.flac")
    write_audio(tmp_path / "train" / "0004.flac", tone(0.9))
    (tmp_path / "train" / "0005.flac").write_bytes(b"no audio")
    nan, _ = soundfile.read(str(write_nan_audio(tmp_path / "nan.wav")), dtype="float32")
    soundfile.write(str(tmp_path / "train" / "0006.wav"), nan, 16000, subtype="FLOAT")
    manifest = tmp_path / "train.tsv"
    manifest.write_text(manifest.read_text().replace("0006.flac", "0006.wav"))
    line = lines(tmp_path)["audio"]
    assert line.startswith("problem ") and "10 of 10 rows read, 6 cannot be used" in line
    for kind in ("no such file", "is empty", "truncated", "other length", "not readable", "not finite"):
        assert f"1 {kind}" in line
    assert lines(tmp_path, bad_audio_budget=0.6)["audio"].startswith("warning ")
    assert lines(tmp_path, bad_audio_budget=0.6, on_bad_audio="error")["audio"].startswith("problem ")


def test_lengths_count_what_is_left_out_and_cut(tmp_path):
    write_manifest(tmp_path, seconds=(0.2, 1.0, 2.0, 3.0))
    line = lines(tmp_path, 24000, max_seconds=2.5)["lengths"]
    assert line.startswith("warning ") and "1 shorter than 0.5 s; 1 cut to 2.5 s; 2 longer than dataset.max_tokens" in line
    assert lines(tmp_path, 1000)["lengths"].startswith("problem ")


def test_sample_rates(tmp_path):
    write_manifest(tmp_path, seconds=(1.0, 1.0), sample_rate=8000)
    found = lines(tmp_path, 20000)
    assert "8000 Hz, resampled to 16000 Hz" in found["sample rate"] and found["lengths"].startswith("ok ")
    write_audio(tmp_path / "train" / "0001.flac", tone(0.5, 16000))
    assert lines(tmp_path)["sample rate"].startswith("problem ")


def test_a_broken_manifest_is_a_problem(tmp_path):
    write_manifest(tmp_path)
    (tmp_path / "train.tsv").write_text(f"{tmp_path}\na.flac\n")
    assert "line 2: must be `path<TAB>num_samples`" in lines(tmp_path)["data"]


@pytest.mark.parametrize("total", [1, 5, 1000])
def test_the_first_and_the_last_row_are_always_read(total):
    rows = sampled_rows(total, 200, seed=1)
    assert rows[0] == 0 and rows[-1] == total - 1 and len(rows) == len(set(rows)) >= min(total, 200)
    assert len(rows) <= 202 and rows == sampled_rows(total, 200, seed=1)
    assert np.all(np.diff(rows) > 0)
