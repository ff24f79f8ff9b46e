"""Alignments from a table, a CTM file and TextGrids are the same, and mistakes are named with file and line."""

import pytest

from fairseq_birq.data.manifest import read_manifest, write_manifest
from fairseq_birq.errors import UserError
from fairseq_birq.measures.alignment import read_any_alignment

EXPECTED = {0: [(0.0, 0.5, "a"), (0.5, 0.75, "SIL")], 1: [(0.25, 1.0, 'b"')]}
LONG_GRID = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 1
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 1
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 1
            text = "word"
    item [2]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0
        xmax = 1
        intervals: size = 2
        intervals [1]:
            xmin = 0
            xmax = 0.25
            text = ""
        intervals [2]:
            xmin = 0.25
            xmax = 1
            text = "b\"\""
"""
SHORT_GRID = """File type = "ooTextFile"
Object class = "TextGrid"

0
0.75
<exists>
1
"IntervalTier"
"phones"
0
0.75
2
0
0.5
"a"
0.5
0.75
"SIL"
"""


@pytest.fixture
def manifest(tmp_path):
    write_manifest(tmp_path / "x.tsv", "/audio", [("one/u1.flac", 16000), ("two/u2.flac", 16000), ("three/u2.flac", 16000)])
    return read_manifest(tmp_path / "x.tsv")


def table(folder):
    lines = ["utt_index\tstart_s\tend_s\tphone", "0\t0\t0.5\ta", "0\t0.5\t0.75\tSIL", '1\t0.25\t1\tb"']
    (folder / "x.phn").write_text("\n".join(lines) + "\n")
    return folder / "x.phn"


def ctm(folder):
    lines = [";; a comment", "u1 1 0 0.5 a", "u1 1 0.5 0.25 SIL 0.9", "", 'two/u2 1 0.25 0.75 b"']
    (folder / "x.ctm").write_text("\n".join(lines) + "\n")
    return folder / "x.ctm"


def text_grids(folder):
    pytest.importorskip("praatio")
    for name, text, encoding in (("u1", SHORT_GRID, "utf-16"), ("two/u2", LONG_GRID, "utf-8")):
        path = folder / "grids" / f"{name}.TextGrid"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding=encoding)
    return folder / "grids"


@pytest.mark.parametrize("write", [table, ctm, text_grids])
def test_every_format_gives_the_same(tmp_path, manifest, write):
    assert dict(read_any_alignment(write(tmp_path), manifest)) == EXPECTED


def test_utterances_of_no_row_are_counted(tmp_path, manifest, caplog):
    path = ctm(tmp_path)
    path.write_text(path.read_text() + "u2 1 0 1 c\nother 1 0 1 c\n")  # two rows are called u2
    assert dict(read_any_alignment(path, manifest)) == EXPECTED
    assert "2 of its 4 utterances belong to no row" in caplog.text


MISTAKES = [
    ("x.ctm", "u1 1 0 0.5 a\nu1 1 0 a\n", r"x\.ctm, line 2: must be `utterance channel"),
    ("x.ctm", "u1 1 0 -0.5 a\n", r"x\.ctm, line 1"),
    ("x.ctm", "u9 1 0 0.5 a\n", r"x\.ctm: no utterance of it is in .*'u9'.*'one/u1'"),
    ("x.ctm", "", "it is empty"),
    ("x.phn", "utt_index\tstart_s\tend_s\tphone\n0\t0\t1\ta\n0\t1\t0.5\ta\n", r"x\.phn, line 3: not an interval"),
    ("x.phn", "utt_index\tstart_s\tend_s\tphone\n3\t0\t1\ta\n", r"x\.phn: is not of .*x\.tsv: it has rows \[3\] of 3"),
    ("g/u1.TextGrid", "File type", r"u1\.TextGrid: not readable as a TextGrid"),
    ("g/u1.TextGrid", SHORT_GRID.replace("phones", "words"), r"u1\.TextGrid: has no tier 'phones'; it has \['words'\]"),
]


@pytest.mark.parametrize("name, text, said", MISTAKES)
def test_mistakes_are_named(tmp_path, manifest, name, text, said):
    if name.endswith("TextGrid"):
        pytest.importorskip("praatio")
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        read_any_alignment(path.parent if name.endswith("TextGrid") else path, manifest)


def test_a_missing_alignment_is_a_user_error(tmp_path, manifest):
    with pytest.raises(UserError, match="absent: no such alignment"):
        read_any_alignment(tmp_path / "absent", manifest)
