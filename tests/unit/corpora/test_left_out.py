"""All that a scan leaves out is counted and named, files of other kinds and names that are not UTF-8 among it."""

import os

from fairseq_birq.cli.manifest import main as birq_manifest
from fairseq_birq.data.audio import read
from fairseq_birq.data.manifest import read_manifest
from tests.fixtures.audio import tone, write_audio


def test_a_name_that_is_not_utf8_is_read_like_any_other(tmp_path, capsys):
    write_audio(tmp_path / "audio" / "a.wav", tone(1.0))
    os.rename(os.fsencode(tmp_path / "audio" / "a.wav"), os.fsencode(tmp_path / "audio") + b"/caf\xe9.wav")
    assert birq_manifest([str(tmp_path / "audio"), str(tmp_path / "out"), "--valid-fraction", "0"]) == 0
    assert "1 files" in capsys.readouterr().out
    manifest = read_manifest(tmp_path / "out" / "train.tsv")
    assert len(read(manifest.audio_path(0), 16000)[0]) == 16000


def test_all_that_is_left_out_is_named_and_other_files_are_counted_by_their_suffix(tmp_path, capsys):
    write_audio(tmp_path / "audio" / "good.wav", tone(1.0))
    for name in ("one.wav", "two.wav"):
        (tmp_path / "audio" / name).write_bytes(b"")
    for name in ("a.txt", "b.txt", "c.TextGrid", "noise.shn", "README"):
        (tmp_path / "audio" / name).write_text("text")
    assert birq_manifest([str(tmp_path / "audio"), str(tmp_path / "out"), "--valid-fraction", "0"]) == 0
    output = capsys.readouterr().out
    assert "left out    2, unusable audio" in output
    assert "not read    5 files that are no audio by their suffix: .txt 2, .shn 1, .textgrid 1, none 1" in output
    rows = (tmp_path / "out" / "left_out.txt").read_text().splitlines()
    assert [row.split("\t")[1].split(" ")[0] for row in rows] == ["one.wav", "two.wav"]
