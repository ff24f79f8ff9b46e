"""A byte order mark, which some editors write, is no part of the text: in every file that users bring."""

import gzip
from pathlib import Path

import pytest

from fairseq_birq.corpora.helpers.text_files import read_json, read_lines, read_table
from fairseq_birq.corpora.helpers.transcripts import Transcripts
from fairseq_birq.data import manifest
from fairseq_birq.data.text import text_lines
from fairseq_birq.decoding.lexicon import read_lexicon
from fairseq_birq.doors.asr_task import read_dictionary, read_letters
from fairseq_birq.errors import UserError
from fairseq_birq.measures.alignment import read_alignment, read_any_alignment
from fairseq_birq.tools.pictures.layer_weights import read_weights
from fairseq_birq.tools.probes.verification import read_trials

MARK = "\ufeff"


class OneRow:
    """Stands for a manifest of one file, `a.flac`."""

    num_samples = (1,)

    def __len__(self):
        return 1

    def name(self, index):
        return "a.flac"


def rows_of(path):
    found = manifest.read_manifest(path)
    return found.root, [(found.name(row), found.count(row)) for row in range(len(found))], found.fingerprint()


READERS = {
    "a.txt": ("one\ntwo\n", lambda path: list(text_lines(path, "file"))),
    "train.tsv": ("/audio\na.flac\t5\n", rows_of),
    "train.ltr": ("a b |\n", lambda path: manifest.parallel_lines(path, 1)),
    "transcripts.tsv": ("a\tone two\n", lambda path: Transcripts(path).pop("a.flac")),
    "lexicon.txt": ("ab\ta b |\n", lambda path: read_lexicon(path, {"a": 0, "b": 1, "|": 2})),
    "dict.ltr.txt": ("a 2\nb 1\n", lambda path: read_dictionary(path).symbols),
    "table.phn": ("utt_index\tstart_s\tend_s\tphone\n0\t0\t1\tp\n", lambda path: dict(read_alignment(path))),
    "phones.ctm": ("a 1 0.0 1.0 p\n", lambda path: read_any_alignment(path, OneRow())),
    "text": ("u1 one two\n", read_table),
    "segments": ("u1 a 0 1\n", lambda path: [line for line, _ in read_lines(path)]),
    "x.json": ('{"a": [1]}\n', read_json),
    "weights.json": ('{"a": [1, 2]}', read_weights),
    "trials.txt": ("1 a b\n", lambda path: read_trials(path, {"a": 0, "b": 1}).tolist()),
}


@pytest.mark.parametrize("name", READERS)
def test_a_byte_order_mark_changes_nothing(tmp_path, name):
    content, read = READERS[name]
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    plain = read(path)
    path.write_text(MARK + content, encoding="utf-8")
    assert plain and read(path) == plain


def test_a_long_manifest_may_have_one_too(tmp_path, monkeypatch):
    """One whose rows stay on the disk."""
    monkeypatch.setattr(manifest, "INDEX_FROM_BYTES", 0)
    content, read = READERS["train.tsv"]
    (tmp_path / "train.tsv").write_text(MARK + content, encoding="utf-8")
    assert read(tmp_path / "train.tsv")[:2] == ("/audio", [("a.flac", 5)])


def test_only_the_first_mark_of_a_file_is_none_of_its_text(tmp_path):
    (tmp_path / "x").write_text(f"a\n{MARK}b\r\n", encoding="utf-8")
    assert list(text_lines(tmp_path / "x", "file")) == [(1, "a"), (2, f"{MARK}b")]


def test_a_letter_is_found_behind_it(tmp_path):
    for name, content in (("dict.ltr.txt", "a 2\nb 1\n"), ("train.ltr", "a b\n")):
        (tmp_path / name).write_text(MARK + content, encoding="utf-8")
    (row,) = read_letters(tmp_path / "train.ltr", 1, read_dictionary(tmp_path / "dict.ltr.txt"))
    assert row.tolist() == [4, 5]


def test_gzip_is_unpacked_and_damage_is_named(tmp_path):
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(f"{MARK}one\ntwo\n".encode()))
    assert [line for _, line in text_lines(path, "file")] == ["one", "two"]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match="x.gz: is a damaged gzip file"):
        list(text_lines(path, "file"))
    path = tmp_path / "latin"
    path.write_bytes(b"one\n\xe9t\xe9\n")
    with pytest.raises(UserError, match="latin: is not UTF-8 text"):
        list(text_lines(path, "file"))
    with pytest.raises(UserError, match="absent: no such list"):
        list(text_lines(Path(tmp_path / "absent"), "list"))
