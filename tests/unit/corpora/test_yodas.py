import json

import pytest

from fairseq_birq.corpora.yodas import SHARDS, make
from fairseq_birq.data.manifest import read_manifest
from fairseq_birq.errors import UserError
from tests.fixtures.corpus_trees import yodas


def test_a_caption_is_a_stretch_of_its_video(tmp_path):
    yodas(tmp_path)
    report = "\n".join(make(str(tmp_path), str(tmp_path / "out"), languages="de100,en", valid_fraction=0))
    manifest = read_manifest(tmp_path / "out" / "train.tsv")
    texts = (tmp_path / "out" / "train.wrd").read_text().splitlines()
    got = {manifest.name(row): texts[row] for row in range(len(manifest))}
    expected = {}
    for name, video in [("de100", "c3"), ("en000", "-a_1"), ("en000", "b-2")]:
        path = f"{name}/audio/00000000/x/{video}.wav"
        expected.update({f"{path}:12000:16800": f"hello {video}", f"{path}:28800:43200": "two words"})
    assert got == expected and manifest.root == str(tmp_path / "data")
    assert "warning     de100: 1 shards instead of 500" in report and "all languages" not in report


def test_languages_durations_and_no_text(tmp_path):
    options = yodas(tmp_path)
    make(str(tmp_path / "data"), str(tmp_path / "en"), languages="en", valid_fraction=0.5, min_seconds=1, no_text=True)
    manifests = [read_manifest(tmp_path / "en" / f"{split}.tsv") for split in ("train", "valid")]
    assert [list(manifest.num_samples) for manifest in manifests] == [[43200], [43200]]
    assert not list((tmp_path / "en").glob("*.wrd"))
    assert "all languages: 0.0 h instead of 369510 h" in "\n".join(make(out=str(tmp_path / "all"), **options))
    with pytest.raises(UserError, match="--languages fr: is not in .* which has de100, en000"):
        make(str(tmp_path), str(tmp_path / "out"), languages="fr")


def test_shards_that_are_not_unpacked_and_videos_that_are_missing_are_counted(tmp_path):
    yodas(tmp_path)
    folder = tmp_path / "data" / "en000"
    (folder / "text" / "00000001.json").write_text("[]")
    (folder / "audio" / "00000000" / "x" / "b-2.wav").unlink()
    report = "\n".join(make(str(tmp_path), str(tmp_path / "out")))
    assert "1, shard that is not unpacked; first: en000/audio/00000001.tar.gz into 00000001/" in report
    assert "1, captions without audio; first: en000: b-2" in report


@pytest.mark.parametrize(
    "content, message",
    [
        ("{}", "must be a list of videos"),
        ("[1]", "must have `audio_id` and `text`"),
        (json.dumps([{"audio_id": "b-2", "text": {"b-2-1": "a"}}]), "<video>-<number>-<start>-<end>"),
        (json.dumps([{"audio_id": "b-2", "text": {"b-2-1-2": 3}}]), "<video>-<number>-<start>-<end>"),
        ("[" * 100000, "is not JSON"),
        ("\udcff", "is not UTF-8"),
    ],
)
def test_malformed_captions_are_named(tmp_path, content, message):
    yodas(tmp_path)
    (tmp_path / "data" / "en000" / "text" / "00000000.json").write_text(content, errors="surrogateescape")
    with pytest.raises(UserError, match=f"00000000.json.*{message}"):
        make(str(tmp_path), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_the_numbers_of_shards_are_those_of_meta_py():
    assert len(SHARDS) == 230 and sum(SHARDS.values()) == 42256 and SHARDS["de102"] == 114
