import os

import pytest
import soundfile

from fairseq_birq.corpora.kaldi import make
from fairseq_birq.data.audio import read
from fairseq_birq.data.manifest import read_manifest
from fairseq_birq.errors import UserError
from tests.fixtures.audio import tone, write_audio
from tests.fixtures.corpus_trees import kaldi


def rows(out, split):
    manifest = read_manifest(out / f"{split}.tsv")
    return [(manifest.name(row), int(manifest.num_samples[row])) for row in range(len(manifest))]


def test_segments_count_in_samples_of_the_file(tmp_path):
    make(out=str(tmp_path / "out"), **kaldi(tmp_path))
    assert rows(tmp_path / "out", "train") == [
        ("train/r1.wav:2000:6000", 6000), ("train/r1.wav:8000:8000", 8000), ("train/r2.wav", 16000),
    ]  # fmt: skip
    assert rows(tmp_path / "out", "dev") == [("dev/d1.wav", 16000)]
    assert read_manifest(tmp_path / "out" / "dev.tsv").root == str(tmp_path / "audio")
    assert (tmp_path / "out" / "train.wrd").read_text() == "one\ntwo three\nfour\n"


def test_what_does_not_fit_is_counted(tmp_path):
    options = kaldi(tmp_path)
    lines = ["u1 r1 0.25 1", "u9 r9 0 1", "u5 r1 1.5 9", "u1b r1 1 0.5", "u2 r2 0 1 1", "u7 r2 0 1"]
    (tmp_path / "data" / "train" / "segments").write_text("\n".join(lines) + "\n")
    with (tmp_path / "data" / "train" / "text").open("a") as file:
        file.write("u9 a\nu5 a\nu1b a\n")
    report = "\n".join(make(out=str(tmp_path / "out"), **options))
    for reason in [
        "segment of a recording that is not there; first: train: u9", "segment outside its file; first: train/r1.wav from 1.5",
        "segment that ends before it begins", "segment of one channel; first: train: u2",
        "utterance without transcript; first: train: u7",
    ]:  # fmt: skip
        assert f"left out    1, {reason}" in report
    assert len(rows(tmp_path / "out", "train")) == 1


def test_relative_paths_count_from_the_working_directory(tmp_path, monkeypatch):
    options = kaldi(tmp_path)
    (tmp_path / "data" / "dev" / "wav.scp").write_text("d1 ../audio/dev/../dev/d1.wav\n")
    monkeypatch.chdir(tmp_path / "data")
    make(out="../out", **options)
    assert rows(tmp_path / "out", "dev") == [("dev/d1.wav", 16000)]


def test_a_share_of_the_recordings_and_no_text(tmp_path):
    options = kaldi(tmp_path)
    make(options["folder"][:1], str(tmp_path / "out"), no_text=True, valid_fraction=0.5)
    files = [{name.split(":")[0] for name, _ in rows(tmp_path / "out", split)} for split in ("train", "valid")]
    assert [len(names) for names in files] == [1, 1] and files[0] != files[1]
    assert not (tmp_path / "out" / "train.wrd").exists()


def with_command(tmp_path, command):
    options = kaldi(tmp_path)
    (tmp_path / "data" / "dev" / "wav.scp").write_text(f"d1 {command} |\nd2 exit 3 |\n")
    (tmp_path / "data" / "dev" / "text").write_text("d1 five\nd2 six\n")
    return options


def test_commands_are_refused_unless_allowed(tmp_path):
    options = with_command(tmp_path, f"touch {tmp_path}/ran")
    with pytest.raises(UserError, match="dev/wav.scp: 2 of 2 entries are commands, as d1: 'touch.*--allow-commands"):
        make(out=str(tmp_path / "out"), **options)
    assert not (tmp_path / "ran").exists() and not (tmp_path / "out").exists()


def test_the_output_of_a_command_is_kept_as_a_file_and_made_once(tmp_path):
    source = write_audio(tmp_path / "audio" / "dev" / "d1.wav", tone(1.0), 16000)
    options = with_command(tmp_path, f"echo run >> {tmp_path}/log;  cat '{source}'")
    for _ in range(2):
        report = "\n".join(make(out=str(tmp_path / "out"), allow_commands=True, **options))
    assert "left out    1, command without audio; first: d2: exit 3 (exit status 3)" in report
    manifest = read_manifest(tmp_path / "out" / "dev.tsv")
    path = manifest.audio_path(0)
    assert len(manifest) == 1 and os.path.dirname(path) == str(tmp_path / "out" / "audio")
    assert soundfile.info(path).subtype == "PCM_16" and (read(path, 8000)[0] == read(str(source), 8000)[0]).all()
    assert (tmp_path / "log").read_text() == "run\n"


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("wav.scp", None, "wav.scp: no such file"),
        ("wav.scp", "d1 x.wav\nd1 y.wav\n", "wav.scp, line 2: repeats d1"),
        ("wav.scp", "d1\n", "d1 must have a path or a command, but has ''"),
        ("wav.scp", "d1 -\n", "d1 must have a path or a command, but has '-'"),
        ("segments", "u1 d1 zero 1\n", "segments, line 1: must be `utterance recording start end`"),
        ("segments", "u1 d1 0\n", "segments, line 1: must be `utterance recording start end`"),
        ("text", "u1 \udcff\n", "text: is not UTF-8"),
    ],
)
def test_malformed_tables_are_named(tmp_path, name, content, message):
    options = kaldi(tmp_path)
    path = tmp_path / "data" / "dev" / name
    path.unlink() if content is None else path.write_text(content, errors="surrogateescape")
    with pytest.raises(UserError, match=message):
        make(out=str(tmp_path / "out"), **options)
    assert not (tmp_path / "out").exists()


def test_the_same_audio_or_name_in_two_splits_is_refused(tmp_path):
    options = kaldi(tmp_path)
    (tmp_path / "data" / "dev" / "wav.scp").write_text(f"d1 {tmp_path}/audio/train/r2.wav\n")
    with pytest.raises(UserError, match="train/r2.wav|r2.wav: is in train and in dev"):
        make(out=str(tmp_path / "out"), **options)
    with pytest.raises(UserError, match="only train differ"):
        make(options["folder"][:1] * 2, str(tmp_path / "out"))
