import pytest

from fairseq_birq.corpora.librispeech import SIZES, make
from fairseq_birq.data.manifest import read_manifest
from fairseq_birq.errors import UserError
from tests.fixtures.corpus_trees import librispeech


def test_subsets_become_splits_and_both_development_sets_are_valid(tmp_path):
    options = librispeech(tmp_path)
    lines = make(out=str(tmp_path / "out"), **options)
    manifests = {path.stem: read_manifest(path) for path in (tmp_path / "out").glob("*.tsv")}
    assert {split: len(manifest) for split, manifest in manifests.items()} == {
        "train": 2, "dev-clean": 2, "dev-other": 2, "test-clean": 2, "test-other": 2, "valid": 4,
    }  # fmt: skip
    assert manifests["train"].root == str(tmp_path / "LibriSpeech")
    assert manifests["train"].name(1) == "train-clean-100/11/7/11-7-0001.flac" and manifests["train"].num_samples[1] == 9600
    assert (tmp_path / "out" / "train.wrd").read_text() == "A CAT 11\nIT'S TWO DOGS\n"
    assert (tmp_path / "out" / "valid.wrd").read_text().split("\n")[0::2] == ["A CAT 12", "A CAT 13", ""]
    report = "\n".join(lines)
    assert "warning     train: 2 utterances instead of 28539, 0.0 h instead of 100.6 h" in report
    assert "warning     test-other: 2 utterances instead of 2939" in report and "no such folder" not in report


def test_missing_subsets_and_files_are_named(tmp_path):
    librispeech(tmp_path)
    chapter = tmp_path / "LibriSpeech" / "dev-clean" / "12" / "7"
    (chapter / "12-7-0000.flac").unlink()
    (chapter / "12-7.trans.txt").write_text("12-7-0000 GONE\n")
    report = "\n".join(make(str(tmp_path / "LibriSpeech"), str(tmp_path / "out"), train="460"))
    assert "warning     train-clean-360: no such folder" in report
    assert "train: 2 utterances instead of 132553, 0.0 h instead of 464.2 h" in report
    assert "left out    1, transcript without audio; first: dev-clean: 12-7-0000" in report
    assert "left out    1, audio without transcript; first: dev-clean/12/7/12-7-0001.flac" in report
    assert not (tmp_path / "out" / "dev-clean.tsv").exists()


def test_a_folder_of_something_else_and_a_repeated_line_are_refused(tmp_path):
    with pytest.raises(UserError, match="no subset of LibriSpeech"):
        make(str(tmp_path), str(tmp_path / "out"))
    options = librispeech(tmp_path)
    (tmp_path / "LibriSpeech" / "train-clean-100" / "11" / "7" / "11-7.trans.txt").write_text("11-7-0000 A\n11-7-0000 B\n")
    with pytest.raises(UserError, match="11-7.trans.txt, line 2: repeats 11-7-0000"):
        make(out=str(tmp_path / "out"), **options)
    assert not (tmp_path / "out").exists()


def test_the_published_sizes_add_up():
    """281,241 utterances and 960.9 h are what everybody calls 960 h."""
    assert [sum(column) for column in zip(*(SIZES[name] for name in SIZES if "train" in name))] == [281241, pytest.approx(960.9)]
