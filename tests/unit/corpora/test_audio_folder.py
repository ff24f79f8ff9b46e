import os
import unicodedata

import numpy as np
import pytest
import soundfile

from fairseq_birq.corpora.audio_folder import find_audio, make, scan
from fairseq_birq.data.manifest import read_manifest
from fairseq_birq.errors import UserError
from tests.fixtures.audio import tone, truncate, write_audio


def audio_tree(folder):
    """Four good files of four formats, 0.5 to 2 s, in nested folders."""
    for name, seconds in [("a/x.wav", 0.5), ("a/b/y.FLAC", 1.0), ("z.ogg", 1.5), ("m.mp3", 2.0)]:
        write_audio(folder / name, tone(seconds))
    return folder


def reasons(report):
    return {reason: len(names) for reason, names in report.left_out.items()}


def test_all_formats_are_found_and_measured_in_order(tmp_path):
    report = scan(audio_tree(tmp_path))
    assert [item.path for item in report.utterances] == ["a/b/y.FLAC", "a/x.wav", "m.mp3", "z.ogg"]
    assert [item.seconds for item in report.utterances][:2] == [1.0, 0.5]
    assert report.hours == pytest.approx(5 / 3600, rel=0.05) and not report.left_out


def test_what_cannot_be_used_is_counted_by_reason(tmp_path):
    audio_tree(tmp_path)
    (tmp_path / "notes.txt").write_text("no audio, no mention")
    (tmp_path / "zero.wav").write_bytes(b"")
    soundfile.write(str(tmp_path / "silent.wav"), np.zeros(0), 16000)
    truncate(write_audio(tmp_path / "cut.flac", tone(2.0)))
    write_audio(tmp_path / "long.wav", tone(9.0))
    write_audio(tmp_path / "ta\tb.wav", tone(1.0))
    report = scan(tmp_path, min_seconds=0.6, max_seconds=5)
    assert reasons(report) == {
        "unusable audio": 3,
        "shorter than 0.6 s": 1,
        "longer than 5 s": 1,
        "tab or line break in the path": 1,
    }
    assert report.left_out["unusable audio"][0].startswith("cut.flac (truncated")
    assert len(report.utterances) == 3


def test_linked_folders_are_followed_once(tmp_path):
    audio_tree(tmp_path / "real")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    os.symlink(tmp_path / "real", corpus / "link")
    os.symlink(corpus, tmp_path / "real" / "loop")
    assert len(find_audio(corpus)) == 4


def test_manifests_have_an_absolute_root_and_split_all_rows(tmp_path, monkeypatch):
    audio_tree(tmp_path / "in")
    monkeypatch.chdir(tmp_path)
    lines = make("in", "out", valid_fraction=0.25)
    train, valid = (read_manifest(tmp_path / "out" / f"{split}.tsv") for split in ("train", "valid"))
    assert train.root == str(tmp_path / "in") and len(train) == 3 and len(valid) == 1
    names = [manifest.name(row) for manifest in (train, valid) for row in range(len(manifest))]
    assert sorted(names) == ["a/b/y.FLAC", "a/x.wav", "m.mp3", "z.ogg"]
    assert soundfile.info(train.audio_path(0)).frames == train.num_samples[0]
    text = "\n".join(lines)
    assert "4 files" in text and "max 2." in text and "16000 Hz: 4 files" in text and "left out    nothing" in text


def test_transcripts_give_label_files_beside_the_manifests(tmp_path):
    audio_tree(tmp_path)
    (tmp_path / "t.txt").write_text("a/x.wav\tone  two\na/b/y\tthree\nz\tfour\nghost\tfive\n")
    lines = make(str(tmp_path), str(tmp_path / "out"), valid_fraction=0.3, transcripts=str(tmp_path / "t.txt"))
    texts = {}
    for split in ("train", "valid"):
        manifest = read_manifest(tmp_path / "out" / f"{split}.tsv")
        words = (tmp_path / "out" / f"{split}.wrd").read_text().splitlines()
        texts.update({manifest.name(row): line for row, line in enumerate(words)})
    assert texts == {"a/x.wav": "one two", "a/b/y.FLAC": "three", "z.ogg": "four"}
    letters = (tmp_path / "out" / "dict.ltr.txt").read_text().split()
    assert set("onetwthrefu|") == set(letters[::2])
    text = "\n".join(lines)
    assert "1, audio without transcript; first: m.mp3" in text and "1, transcript without audio; first: ghost" in text


@pytest.mark.parametrize(
    "content, message",
    [
        ("a/x.wav one\n", "line 1.*TAB"),
        ("z\tone\nz\ttwo\n", "line 2.*repeats z"),
        ("z\tone|two\n", "line 1.*[|]"),
        (None, "no such file of transcripts"),
    ],
)
def test_bad_transcripts_are_named_by_line_and_nothing_is_written(tmp_path, content, message):
    audio_tree(tmp_path)
    if content is not None:
        (tmp_path / "t.txt").write_text(content)
    with pytest.raises(UserError, match=f"t.txt.*{message}"):
        make(str(tmp_path), str(tmp_path / "out"), transcripts=str(tmp_path / "t.txt"))
    assert not (tmp_path / "out").exists()


def test_a_name_that_two_files_share_needs_its_folder(tmp_path):
    for folder in "ab":
        write_audio(tmp_path / folder / "x.wav", tone(0.5))
    (tmp_path / "t.txt").write_text("x\tone\n")
    with pytest.raises(UserError, match="x could mean a/x.wav or b/x.wav"):
        make(str(tmp_path), str(tmp_path / "out"), transcripts=str(tmp_path / "t.txt"))


def test_a_folder_with_nothing_usable_says_why(tmp_path):
    (tmp_path / "zero.wav").write_bytes(b"")
    with pytest.raises(UserError, match="no utterance is left\n(.*\n)*.*1, unusable audio; first: zero.wav .*0 bytes"):
        make(str(tmp_path), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_old_validation_part_never_overlaps(tmp_path):
    audio_tree(tmp_path / "in")
    make(str(tmp_path / "in"), str(tmp_path / "out"), valid_fraction=0.5)
    with pytest.raises(UserError, match="valid.tsv.*remove it"):
        make(str(tmp_path / "in"), str(tmp_path / "out"), valid_fraction=0.0)


@pytest.mark.parametrize("form, other", [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_file_finds_its_transcript_in_a_different_unicode_form(tmp_path, form, other):
    """File names that were made on macOS have decomposed letters."""
    write_audio(tmp_path / "in" / unicodedata.normalize(form, "\u00e9t\u00e9.wav"), tone(1.0))
    (tmp_path / "text.tsv").write_text(unicodedata.normalize(other, "\u00e9t\u00e9") + "\tsummer\n", encoding="utf-8")
    make(tmp_path / "in", tmp_path / "out", transcripts=tmp_path / "text.tsv")
    assert (tmp_path / "out" / "train.wrd").read_text() == "summer\n"
