"""Damaged text files of a corpus: whatever is in them, the answer is manifests or a `UserError`."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairseq_birq.corpora import make
from fairseq_birq.errors import UserError
from tests.fixtures.corpus_trees import TREES

FILES = [
    ("librispeech", "LibriSpeech/train-clean-100/11/7/11-7.trans.txt"),
    ("ami", "ami_public_manual_1.6.2/corpusResources/meetings.xml"),
    ("ami", "ami_public_manual_1.6.2/words/ES2002a.A.words.xml"),
    ("ami", "ami_public_manual_1.6.2/segments/ES2002a.A.segments.xml"),
    ("yodas", "data/en000/text/00000000.json"),
    ("kaldi", "data/train/wav.scp"),
    ("kaldi", "data/train/segments"),
    ("kaldi", "data/train/text"),
    ("lhotse", "cuts_train.jsonl"),
]
TROUBLE = [b"\n", b"-1", b"nan", b"1e999", b"null", b"[", b'"', b"<", b"|", b"9" * 30, b"\\ud800", b"\\u0000"]
PIECES = st.one_of(st.binary(max_size=8), st.sampled_from(TROUBLE))


@pytest.mark.parametrize("name, file", FILES, ids=lambda value: value.split("/")[-1])
def test_damaged_files_end_in_manifests_or_one_sentence(name, file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    options = TREES[name](folder)
    path = folder / file
    good = path.read_bytes()

    @settings(max_examples=30, deadline=None, database=None, derandomize=True)
    @given(st.lists(st.tuples(st.integers(0, len(good)), st.integers(0, 12), PIECES), min_size=1, max_size=3))
    def damage(edits):
        content = good
        for place, length, piece in edits:
            content = content[:place] + piece + content[place + length :]
        path.write_bytes(content)
        out = tmp_path_factory.mktemp("out")
        try:
            assert make(name, str(out / "out"), workers=1, **options)
        except UserError as error:
            assert str(error) and not (out / "out").exists()

    damage()
