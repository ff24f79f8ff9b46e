import subprocess
import sys

import pytest

from fairseq_birq.cli.manifest import main
from tests.fixtures.audio import tone, write_audio


def test_a_folder_becomes_manifests_and_a_report(tmp_path, capsys):
    for index in range(4):
        write_audio(tmp_path / "in" / f"{index}.wav", tone(0.5))
    assert main([str(tmp_path / "in"), str(tmp_path / "out"), "--valid-fraction", "0.5"]) == 0
    assert (tmp_path / "out" / "train.tsv").read_text().splitlines()[0] == str(tmp_path / "in")
    out = capsys.readouterr().out
    assert "4 files" in out and "median 0.50 s" in out and "16000 Hz" in out and "valid.tsv: 2 files" in out


@pytest.mark.parametrize("make_it, message", [(False, "no such folder"), (True, "no wav, flac, ogg, oga, opus, mp3, aiff")])
def test_a_missing_or_empty_folder_is_one_line_and_status_2(tmp_path, capsys, make_it, message):
    folder = tmp_path / "in"
    if make_it:
        folder.mkdir()
    assert main([str(folder), str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"error: {folder}: {message}") and not captured.out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("fraction", ["1", "-0.1", "nan"])
def test_a_fraction_out_of_range_is_refused(tmp_path, capsys, fraction):
    assert main([str(tmp_path), str(tmp_path / "out"), "--valid-fraction", fraction]) == 2
    assert "--valid-fraction must be >= 0 and < 1" in capsys.readouterr().err


def test_an_out_that_is_a_file_is_an_error_without_traceback(tmp_path, capsys):
    write_audio(tmp_path / "in" / "a.wav", tone(0.5))
    (tmp_path / "out").write_text("")
    assert main([str(tmp_path / "in"), str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")


def test_the_demo_corpus_of_earlier_versions_says_where_it_is_made_now(tmp_path, capsys):
    assert main(["demo", str(tmp_path / "out"), "--minutes", "0.05"]) == 2
    assert "python examples/demo/corpus.py OUT" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_the_command_exits_with_the_status(tmp_path):
    command = [sys.executable, "-m", "fairseq_birq.cli.manifest", str(tmp_path / "absent"), str(tmp_path / "out")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2 and "Traceback" not in result.stderr


def test_a_misspelt_corpus_is_one_line_that_names_the_nearest(tmp_path, capsys):
    assert main(["librispech", str(tmp_path), str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.strip() == "error: librispech is neither a corpus nor a folder; did you mean librispeech?"
