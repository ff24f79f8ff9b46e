import os

import numpy as np
import pytest
from fairseq.data.audio.audio_utils import parse_path, read_from_stored_zip

from fairseq_birq.corpora.helpers import zip_shards
from fairseq_birq.corpora.helpers.zip_shards import pack
from fairseq_birq.data.audio import read
from fairseq_birq.data.manifest import read_manifest
from fairseq_birq.errors import UserError
from tests.fixtures.audio import tone, truncate, write_audio
from tests.fixtures.manifests import write_manifest

SECONDS = (1.0, 0.5, 1.5, 0.7, 0.9)
TEXTS = ["a b", "c", "d e f", "g", "h"]


def waves(manifest):
    return [read(manifest.audio_path(row), 16000)[0] for row in range(len(manifest))]


def state(folder):
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}


def test_a_packed_corpus_has_the_same_audio_and_labels(tmp_path):
    folder = write_manifest(tmp_path / "in", seconds=SECONDS, texts=TEXTS)
    (folder / "train.spk").write_text("anna\nberta\nanna\nberta\nanna\n")
    lines = pack(folder / "train.tsv", tmp_path / "out", 40e-6)
    before, after = read_manifest(folder / "train.tsv"), read_manifest(tmp_path / "out" / "train.tsv")
    for old, new in zip(waves(before), waves(after)):
        np.testing.assert_array_equal(old, new)
    zips = sorted((tmp_path / "out").glob("*.zip"))
    assert len(zips) > 1 and max(path.stat().st_size for path in zips) <= 40e3
    assert after.num_samples.tolist() == before.num_samples.tolist()
    for name in ("train.wrd", "train.ltr", "train.spk", "dict.ltr.txt"):
        assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes()
    assert lines == [f"written     {tmp_path}/out/train.tsv: 5 of 5 files in {len(zips)} zips, .wrd, .ltr, .spk"]
    for row in range(5):  # fairseq's own reader finds the same bytes
        place, (offset, size) = parse_path(after.audio_path(row))
        assert read_from_stored_zip(place, offset, size) == open(before.audio_path(row), "rb").read()


def test_packing_goes_on_after_the_last_whole_zip(tmp_path, monkeypatch):
    folder = write_manifest(tmp_path / "in", seconds=SECONDS, texts=TEXTS)
    pack(folder / "train.tsv", tmp_path / "once", 40e-6)
    loads, load = [], zip_shards._load
    monkeypatch.setattr(zip_shards, "ROWS_AHEAD", 1)

    def interrupted(manifest, row):
        loads.append(row)
        if row == 4:
            raise KeyboardInterrupt
        return load(manifest, row)

    monkeypatch.setattr(zip_shards, "_load", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pack(folder / "train.tsv", tmp_path / "out", 40e-6)
    stopped = state(tmp_path / "out")
    assert "train-00000.zip" in stopped and not any("tsv" in name or "tmp" in name for name in stopped)
    monkeypatch.setattr(zip_shards, "_load", lambda manifest, row: (loads.append(-row), load(manifest, row))[1])
    pack(folder / "train.tsv", tmp_path / "out", 40e-6)
    assert 0 not in [-row for row in loads if row < 0]  # rows of whole zips are not read again
    assert {name: content for name, (_, content) in state(tmp_path / "out").items()} == {
        name: content for name, (_, content) in state(tmp_path / "once").items()
    }
    done = state(tmp_path / "out")
    pack(folder / "train.tsv", tmp_path / "out", 40e-6)
    assert all(done[name] == now for name, now in state(tmp_path / "out").items() if name.endswith(".zip"))


def test_segments_and_files_in_zips_are_packed_as_files(tmp_path):
    folder = write_manifest(tmp_path / "in", seconds=(2.0, 1.0))
    pack(folder / "train.tsv", tmp_path / "zips", 1)
    packed = read_manifest(tmp_path / "zips" / "train.tsv")
    absolute = write_audio(tmp_path / "else.wav", tone(1.0))
    rows = [
        f"{tmp_path}/in/train/0000.flac:8000:16000\t16000",
        f"{packed.audio_path(1)}\t16000",
        f"{absolute}\t16000",
        f"{tmp_path}/in/train/0000.flac:0:8000\t8000",
    ]
    (tmp_path / "mixed.tsv").write_text("\n".join(["/", *rows]) + "\n")
    pack(tmp_path / "mixed.tsv", tmp_path / "out", 1)
    before, after = read_manifest(tmp_path / "mixed.tsv"), read_manifest(tmp_path / "out" / "mixed.tsv")
    for old, new in zip(waves(before), waves(after)):
        np.testing.assert_array_equal(old, new)


def test_unusable_audio_is_left_out_with_its_labels_and_counted(tmp_path):
    folder = write_manifest(tmp_path / "in", seconds=SECONDS, texts=TEXTS)
    truncate(folder / "train" / "0001.flac")
    write_audio(folder / "train" / "0004.flac", tone(2.0))
    for _ in range(2):
        lines = pack(folder / "train.tsv", tmp_path / "out", 40e-6)
        assert lines[0].startswith("left out    2, unusable audio; first: ") and "3 of 5 files" in lines[1]
        assert read_manifest(tmp_path / "out" / "train.tsv").num_samples.tolist() == [16000, 24000, 11200]
        assert (tmp_path / "out" / "train.wrd").read_text().split("\n") == ["a b", "d e f", "g", ""]
    for name in ("0000", "0002", "0003"):
        os.remove(folder / "train" / f"{name}.flac")
    with pytest.raises(UserError, match="no audio could be packed\nleft out    5, unusable.*0000.flac: no such file"):
        pack(folder / "train.tsv", tmp_path / "none", 1)
    assert sorted(os.listdir(tmp_path / "none")) == ["train.zips.json"]


def test_what_does_not_fit_is_refused(tmp_path):
    folder = write_manifest(tmp_path / "in", seconds=SECONDS, texts=TEXTS)
    with pytest.raises(UserError, match="--pack-zip must be > 0"):
        pack(folder / "train.tsv", tmp_path / "out", 0)
    with pytest.raises(UserError, match="holds the manifest that is to be packed"):
        pack(folder / "train.tsv", folder, 1)
    with pytest.raises(UserError, match="0000.flac: has .* more than a zip; raise --pack-zip"):
        pack(folder / "train.tsv", tmp_path / "small", 1e-6)
    pack(folder / "train.tsv", tmp_path / "out", 1)
    with pytest.raises(UserError, match="zips of another manifest or of another size"):
        pack(folder / "train.tsv", tmp_path / "out", 2)
    os.replace(tmp_path / "out" / "train-00000.zip", tmp_path / "whole.zip")
    other = write_manifest(tmp_path / "other", "test", seconds=(0.5,))
    pack(other / "test.tsv", tmp_path / "of_other", 1)
    os.replace(tmp_path / "of_other" / "test-00000.zip", tmp_path / "out" / "train-00000.zip")
    with pytest.raises(UserError, match="train-00000.zip: holds test/0000.flac, which is not what comes next"):
        pack(folder / "train.tsv", tmp_path / "out", 1)
    (folder / "train.wrd").write_text("too few\n")
    with pytest.raises(UserError, match="train.wrd: has 1 lines"):
        pack(folder / "train.tsv", tmp_path / "out2", 1)
    assert not (tmp_path / "out2").exists()


def test_two_paths_with_one_name_in_the_zip_are_refused(tmp_path):
    write_audio(tmp_path / "a.wav", tone(1.0))
    write_audio(tmp_path / "a.wav-0-500.flac", tone(1.0))
    (tmp_path / "x.tsv").write_text(".\na.wav:0:500\t500\na.wav-0-500.flac\t16000\n")
    with pytest.raises(UserError, match="another file would also be called a.wav-0-500.flac"):
        pack(tmp_path / "x.tsv", tmp_path / "out", 1)
