import gzip
import json

import pytest

from fairseq_birq.corpora.lhotse import make
from fairseq_birq.data.manifest import read_manifest
from fairseq_birq.errors import UserError
from tests.fixtures.audio import tone, write_audio
from tests.fixtures.corpus_trees import cut, lhotse


def write_cuts(folder, cuts, name="all.jsonl"):
    opened = gzip.open if name.endswith(".gz") else open
    with opened(folder / name, "wt") as file:
        file.writelines(json.dumps(line) + "\n" for line in cuts)
    return [str(folder / name)]


def names(out, split="all"):
    manifest = read_manifest(out / f"{split}.tsv")
    return [manifest.name(row) for row in range(len(manifest))]


def test_cuts_are_stretches_of_their_recording(tmp_path):
    make(out=str(tmp_path / "out"), **lhotse(tmp_path))
    assert names(tmp_path / "out", "cuts_train") == ["train.wav:8000:16000", "train.wav:24000:20000"]
    assert (tmp_path / "out" / "cuts_dev.wrd").read_text() == "one\ntwo three\n"


def test_compressed_sets_relative_paths_and_texts_in_the_order_of_their_times(tmp_path, monkeypatch):
    write_audio(tmp_path / "a.wav", tone(3.0))
    spoken = [{"start": 0.6, "text": "world"}, {"start": 0.0, "text": "hello"}, {"start": 2.0}]
    cuts = write_cuts(tmp_path, [cut("a.wav", "1", 0.0, 3.0, supervisions=spoken)], "all.jsonl.gz")
    monkeypatch.chdir(tmp_path)
    make(cuts, "out")
    assert names(tmp_path / "out") == ["a.wav"] and (tmp_path / "out" / "all.wrd").read_text() == "hello world\n"


def test_a_share_of_the_recordings(tmp_path):
    paths = [write_audio(tmp_path / f"{name}.wav", tone(3.0)) for name in "abcd"]
    cuts = [cut(path, f"{path}{start}", start, 1.0) for path in paths for start in (0.0, 1.0)]
    make(write_cuts(tmp_path, cuts), str(tmp_path / "out"), valid_fraction=0.5)
    parts = [[name.split(":")[0] for name in names(tmp_path / "out", split)] for split in ("all", "valid")]
    assert [len(part) for part in parts] == [4, 4] and not set(parts[0]) & set(parts[1])


def test_what_is_no_stretch_of_a_file_is_counted(tmp_path):
    path = write_audio(tmp_path / "a.wav", tone(3.0))
    plain = cut(path, "good", 0.0, 1.0, "a")
    recording = plain["recording"]

    def source(**changes):
        return {**recording, "sources": [{**recording["sources"][0], **changes}]}

    strange = [
        ({"type": "MixedCut"}, "cut of type MixedCut"),
        ({"type": "PaddingCut"}, "cut of type PaddingCut"),
        ({"recording": None}, "cut without a recording"),
        ({"recording": {**recording, "sources": recording["sources"] * 2}}, "cut of several sources"),
        ({"recording": source(type="command")}, "cut of a source of type command"),
        ({"recording": source(type="memory")}, "cut of a source of type memory"),
        ({"recording": {**recording, "transforms": [{"name": "Speed"}]}}, "cut of audio that lhotse changes"),
        ({"recording": source(channels=[0, 1])}, "cut of one channel of several"),
        ({"recording": {**recording, "sampling_rate": 8000}}, "cut of another sample rate than its file"),
        ({"supervisions": []}, "cut without text"),
        ({"start": 2.5, "duration": 9.0}, "segment outside its file"),
        ({"duration": -1.0}, "segment that ends before it begins"),
        ({"recording": source(source=str(tmp_path / "gone.wav"))}, "unusable audio"),
    ]
    cuts = write_cuts(tmp_path, [plain] + [{**plain, "id": reason, **changes} for changes, reason in strange])
    report = "\n".join(make(cuts, str(tmp_path / "out")))
    for _, reason in strange:
        assert f"left out    1, {reason}; first: " in report
    assert names(tmp_path / "out") == ["a.wav:0:16000"]


def test_a_cut_of_all_channels_is_taken(tmp_path):
    path = write_audio(tmp_path / "a.wav", tone(3.0))
    whole = cut(path, "1", 0.0, 1.0, type="MultiCut", channel=[0, 1])
    whole["recording"]["sources"][0]["channels"] = [0, 1]
    make(write_cuts(tmp_path, [whole]), str(tmp_path / "out"))
    assert names(tmp_path / "out") == ["a.wav:0:16000"]


@pytest.mark.parametrize(
    "line, message",
    [
        ("{", "line 1: is not JSON"),
        ("[]", "line 1: is no cut.*lhotse cut simple"),
        (json.dumps({"id": "r", "sources": []}), "line 1: is no cut.*lhotse cut simple"),
        (json.dumps(cut("a.wav", "x", "soon", 1.0)), "line 1: the cut 'x' is malformed .*soon"),
        (json.dumps(cut("a.wav", "x", float("nan"), 1.0)), "line 1: the cut 'x' is malformed .*finite"),
        (json.dumps(cut("a.wav", "x", 0.0, 1.0, supervisions=[{"text": 3}])), "line 1: the cut 'x' is malformed"),
        (json.dumps(cut("a.wav", "x", 0.0, 1.0, supervisions=[3])), "line 1: the cut 'x' is malformed"),
    ],
)
def test_malformed_lines_are_named(tmp_path, line, message):
    (tmp_path / "all.jsonl").write_text(line + "\n")
    with pytest.raises(UserError, match=f"all.jsonl, {message}"):
        make([str(tmp_path / "all.jsonl")], str(tmp_path / "out"))


def test_a_damaged_gzip_is_named(tmp_path):
    (cuts,) = write_cuts(tmp_path, [cut("a.wav", "1", 0.0, 1.0)], "all.jsonl.gz")
    content = (tmp_path / "all.jsonl.gz").read_bytes()
    (tmp_path / "all.jsonl.gz").write_bytes(content[:-20])
    with pytest.raises(UserError, match="all.jsonl.gz: is a damaged gzip file"):
        make([cuts], str(tmp_path / "out"))
