import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairseq_birq.data.files import write_lines
from fairseq_birq.data.manifest import parallel_lines, read_manifest, split_rows, write_manifest
from fairseq_birq.errors import UserError

NAMES = ["b/ünïcode.flac", "a/with space.wav", "c.mp3"]


def test_written_rows_are_read_back(tmp_path):
    write_manifest(tmp_path / "x.tsv", "/somewhere", zip(NAMES, [1, 0, 10**12]))
    manifest = read_manifest(tmp_path / "x.tsv")
    assert [manifest.name(index) for index in range(len(manifest))] == NAMES
    assert manifest.num_samples.tolist() == [1, 0, 10**12]
    assert manifest.audio_path(2) == "/somewhere/c.mp3"


def test_names_that_are_not_utf8_survive(tmp_path):
    name = os.fsdecode(b"latin-1-\xe9.wav")
    write_manifest(tmp_path / "x.tsv", "/somewhere", [(name, 5)])
    assert read_manifest(tmp_path / "x.tsv").name(0) == name


@pytest.mark.parametrize("root, expected", [(".", ""), ("audio", "audio"), ("./audio/..", "")])
def test_a_relative_root_counts_from_the_manifest(tmp_path, monkeypatch, root, expected):
    write_manifest(tmp_path / "x.tsv", root, [("a.wav", 5)])
    monkeypatch.chdir(tmp_path)
    manifest = read_manifest("x.tsv")
    monkeypatch.chdir("/")
    assert manifest.audio_path(0) == str(tmp_path / expected / "a.wav")


def test_paths_that_stay_below_the_root_or_are_absolute_are_read(tmp_path):
    names = ["/else/where.wav", "..a.wav", "a/../b.wav", "a...wav", "a.wav:0:5", "a.wav:5:5", "b.zip:10:999"]
    write_manifest(tmp_path / "x.tsv", "/r", [(name, 5) for name in names])
    manifest = read_manifest(tmp_path / "x.tsv")
    assert [manifest.name(index) for index in range(len(manifest))] == names
    assert [manifest.audio_path(index) for index in (0, 5)] == ["/else/where.wav", "/r/a.wav:5:5"]


def test_windows_line_ends_are_read(tmp_path):
    (tmp_path / "x.tsv").write_bytes(b"/r\r\na.wav\t5\r\nb.wav\t6\r\n\r\n")
    manifest = read_manifest(tmp_path / "x.tsv")
    assert [manifest.audio_path(0), manifest.name(1)] == ["/r/a.wav", "b.wav"]


@pytest.mark.parametrize(
    "rows, where",
    [
        ("a.wav 5\n", "line 2.*TAB"),
        ("a.wav\t5\t6\n", "line 2.*TAB"),
        ("\t5\n", "line 2.*TAB"),
        ("a.wav\t5\nb.wav\tmany\n", "line 3.*whole number.*'many'"),
        ("a.wav\t-5\n", "line 2.*whole number.*'-5'"),
        ("a.wav\t5.0\n", "line 2.*whole number"),
        ("a.wav\t5\n\nb.wav\t5\n", "line 3.*empty"),
        ("a.wav\t5\nb.wav\t5\na.wav\t5\n", "line 4.*repeats.*line 2, a.wav"),
        ("a.wav\t5\na/../../b.wav\t5\n", "line 3.*a/../../b.wav is outside the root folder"),
        ("..\t5\n", "line 2.*outside"),
        ("a.wav\t5\na.wav:3:6\t5\n", "line 3.*segment a.wav:3:6 has 6 samples, but the row says 5"),
        ("", "no rows.*birq-manifest"),
    ],
)
def test_malformed_rows_are_named_by_file_and_line(tmp_path, rows, where):
    (tmp_path / "x.tsv").write_text("/root\n" + rows)
    with pytest.raises(UserError, match=f"x.tsv.*{where}"):
        read_manifest(tmp_path / "x.tsv")


@pytest.mark.parametrize("content", ["", "a.wav\t5\n"])
def test_a_missing_root_line_is_named(tmp_path, content):
    (tmp_path / "x.tsv").write_text(content)
    with pytest.raises(UserError, match="x.tsv, line 1.*root"):
        read_manifest(tmp_path / "x.tsv")


def test_a_missing_manifest_says_how_to_make_one(tmp_path):
    with pytest.raises(UserError, match="train.tsv.*birq-manifest"):
        read_manifest(tmp_path / "train.tsv")


def test_the_data_pack_works_as_it_is(mboshi, fsdd):
    for folder, split, rows in [(mboshi, "pretrain", 1431), (mboshi, "dev", 116), (fsdd, "test", 300)]:
        manifest = read_manifest(folder / f"{split}.tsv")
        assert len(manifest) == rows
        assert os.path.isfile(manifest.audio_path(0)) and os.path.isfile(manifest.audio_path(rows - 1))
        assert len(parallel_lines(folder / f"{split}.wrd", rows)) == rows


@given(st.sets(st.text(min_size=1), max_size=60), st.floats(0, 0.99), st.integers(0, 5), st.randoms())
def test_a_split_is_a_partition_that_ignores_order(names, fraction, seed, random):
    names = sorted(names)
    train, valid = split_rows(names, fraction, seed)
    assert sorted(train + valid) == list(range(len(names)))
    shuffled = random.sample(names, len(names))
    assert {shuffled[row] for row in split_rows(shuffled, fraction, seed)[1]} == {names[row] for row in valid}


@pytest.mark.parametrize("rows, fraction, expected", [(100, 0.1, 10), (3, 0.01, 1), (2, 0.9, 1), (1, 0.5, 0), (9, 0, 0)])
def test_split_sizes(rows, fraction, expected):
    assert len(split_rows([str(row) for row in range(rows)], fraction)[1]) == expected


def test_another_seed_is_another_split():
    names = [str(row) for row in range(200)]
    assert split_rows(names, 0.2, seed=1) != split_rows(names, 0.2, seed=2)


def test_labels_of_another_length_are_refused(tmp_path):
    write_lines(tmp_path / "x.ltr", ["a |", "b |"])
    assert parallel_lines(tmp_path / "x.ltr", 2) == ["a |", "b |"]
    with pytest.raises(UserError, match="x.ltr: has 2 lines.*3 rows"):
        parallel_lines(tmp_path / "x.ltr", 3)
    with pytest.raises(UserError, match="absent.ltr"):
        parallel_lines(tmp_path / "absent.ltr", 3)


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    write_lines(tmp_path / "x", ["old"])

    def broken():
        yield "new"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_lines(tmp_path / "x", broken())
    assert (tmp_path / "x").read_text() == "old\n" and os.listdir(tmp_path) == ["x"]
