import json

import pytest

from fairseq_birq.cli.transcribe import main
from tests.fixtures.audio import tone, write_audio
from tests.fixtures.checkpoints import write_birq_checkpoint, write_ctc_checkpoint


@pytest.fixture
def folder(tmp_path):
    write_ctc_checkpoint(tmp_path / "ctc.pt")
    write_birq_checkpoint(tmp_path / "pretrained.pt")
    write_audio(tmp_path / "audio" / "one.wav", tone(1.0))
    write_audio(tmp_path / "audio" / "deep" / "two.flac", tone(1.5, 8000), 8000)
    return tmp_path


def run(folder, *arguments, status=0, checkpoint="ctc.pt"):
    assert main([str(folder / checkpoint), *map(str, arguments)]) == status


def refused(folder, capsys, message, *arguments, **settings):
    run(folder, *arguments, status=2, **settings)
    captured = capsys.readouterr()
    assert message in captured.err and not captured.out, captured.err


def test_text_goes_to_stdout_and_nothing_else_does(folder, capsys):
    run(folder, folder / "audio")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["deep/two.flac", "one.wav"]
    assert all(line.split("\t")[1] for line in lines)


def test_a_file_per_recording(folder):
    run(folder, folder / "audio", "--out", folder / "out", "--format", "json")
    found = sorted(path.relative_to(folder / "out").as_posix() for path in (folder / "out").rglob("*") if path.is_file())
    assert found == ["deep/two.json", "one.json"]
    content = json.loads((folder / "out" / "deep" / "two.json").read_text())
    assert content["seconds"] == 1.5 and content["text"] == " ".join(word["word"] for word in content["words"])


@pytest.mark.parametrize("form", ["txt", "json", "ctm"])
def test_one_file_of_all_is_what_stdout_gets(folder, capsys, form):
    run(folder, folder / "audio", "--out", folder / f"all.{form}")
    run(folder, folder / "audio", "--format", form)
    assert capsys.readouterr().out == (folder / f"all.{form}").read_text() != ""


def test_a_long_recording_says_how_far_it_is_before_its_end(folder, capsys, monkeypatch):
    monkeypatch.setattr("fairseq_birq.progress.LINE_SECONDS", 0.0)
    write_audio(folder / "long.wav", tone(130.0))
    run(folder, folder / "long.wav", "--max-seconds", 10, "--batch-seconds", 10)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("transcribe: 0 of 1 recordings")]
    assert len(lines) >= 5 and any(", audio 1 min, " in line for line in lines)


def test_a_bad_file_is_counted_and_named_and_exit_status_1_says_so(folder, capsys):
    (folder / "audio" / "bad.wav").write_bytes(b"x")
    run(folder, folder / "audio", folder / "gone.wav", status=1)
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 2
    assert "left out bad.wav: " in captured.err and "gone.wav: no such file" in captured.err
    assert "2 of 4 recordings could not be read" in captured.err and "transcribe: 4 of 4 recordings in" in captured.err


def test_only_bad_files(folder, capsys):
    refused(folder, capsys, "none of the 1 recordings could be read", folder / "gone.wav")


def test_a_lexicon(folder, capsys):
    pytest.importorskip("flashlight.lib.text.decoder", reason="the extra [decode] is not installed")
    (folder / "lexicon.txt").write_text("Abba\ta b b a |\nDa\td a |\nC\tc |\n")
    run(folder, folder / "audio", "--lexicon", folder / "lexicon.txt", "--word-score", "3")
    words = {word for line in capsys.readouterr().out.splitlines() for word in line.split("\t")[1].split()}
    assert words and words <= {"Abba", "Da", "C"}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--lm", "x.arpa"], "--lm x.arpa would have no effect"),
        (["--beam", "5"], "--beam 5 would have no effect"),
        (["--word-score", "0"], "--word-score 0.0 would have no effect"),
        (["--lexicon", "x.txt", "--lm-weight", "1"], "none is given as --lm"),
        (["--lexicon", "x.txt"], "x.txt does not exist"),
        (["--format", "srt"], "subtitles of 2 recordings cannot be one file"),
        (["--format", "srt", "--out", "x.json"], "name different formats"),
        (["--max-seconds", "0"], "pieces must be at least"),
        (["--dictionary", "nowhere.txt"], "nowhere.txt: no such dictionary"),
    ],
)
def test_mistakes(folder, capsys, arguments, message):
    if "--lexicon" in arguments:
        pytest.importorskip("flashlight.lib.text.decoder", reason="the extra [decode] is not installed")
    refused(folder, capsys, message, folder / "audio", *arguments)


def test_two_recordings_of_one_name(folder, capsys):
    refused(folder, capsys, "would both be written to", folder / "audio", folder / "audio", "--out", folder / "out")


def test_a_pretrained_checkpoint(folder, capsys):
    refused(folder, capsys, "knows no letters: fine-tune it first", folder / "audio", checkpoint="pretrained.pt")
