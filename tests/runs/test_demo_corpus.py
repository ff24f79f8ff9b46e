"""examples/demo/corpus.py: the corpus of `make demo`, and the speech synthesiser that speaks it."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from fairseq_birq.data.manifest import parallel_lines, read_manifest
from fairseq_birq.errors import UserError

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "demo"))
import corpus as demo  # noqa: E402
import espeak  # noqa: E402

MINUTES = 0.6


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    demo.make(str(folder), minutes=MINUTES)
    return folder


def names(folder, split):
    manifest = read_manifest(folder / f"{split}.tsv")
    return [manifest.name(row) for row in range(len(manifest))]


def phones(folder, split):
    """{utt_index: [(path, start_s, end_s, phone)]} of a `.phn` table."""
    lines = (folder / f"{split}.phn").read_text().splitlines()
    assert lines[0].split("\t") == ["utt_index", "path", "start_s", "end_s", "phone"]
    rows = [line.split("\t") for line in lines[1:]]
    rows = [(int(row[0]), row[1], float(row[2]), float(row[3]), row[4]) for row in rows]
    return {index: [row[1:] for row in group] for index, group in itertools.groupby(rows, key=lambda row: row[0])}


def test_splits_have_their_minutes_and_all_label_files(corpus):
    for split, share in [("pretrain", 1.0), ("train", 0.1), ("valid", 0.075), ("test", 0.075)]:
        manifest = read_manifest(corpus / f"{split}.tsv")
        minutes = manifest.num_samples.sum() / 16000 / 60
        assert share * MINUTES <= minutes <= share * MINUTES + 2 * 6 / 60
        for suffix in ("wrd", "ltr", "spk"):
            assert len(parallel_lines(corpus / f"{split}.{suffix}", len(manifest))) == len(manifest)
        info = soundfile.info(manifest.audio_path(0))
        assert (info.samplerate, info.frames) == (16000, manifest.num_samples[0])


def test_train_is_part_of_pretrain_and_no_sentence_is_in_two_splits(corpus):
    assert set(names(corpus, "train")) < set(names(corpus, "pretrain"))
    texts = [(corpus / f"{split}.wrd").read_text().splitlines() for split in ("pretrain", "valid", "test")]
    joined = [line for lines in texts for line in lines]
    assert len(set(joined)) == len(joined)


def test_phones_cover_each_utterance_in_order(corpus):
    manifest = read_manifest(corpus / "train.tsv")
    table = phones(corpus, "train")
    assert sorted(table) == list(range(len(manifest)))
    for index, rows in table.items():
        assert {row[0] for row in rows} == {manifest.name(index)}
        assert rows[0][1] == 0 and rows[-1][2] == pytest.approx(manifest.num_samples[index] / 16000, abs=0.002)
        assert all(start < end for _, start, end, _ in rows)
        assert all(left[2] == right[1] for left, right in zip(rows, rows[1:]))


def test_phone_times_fit_the_sound(corpus):
    """Vowels are louder than pauses, and sibilants have more high frequencies than vowels."""
    manifest = read_manifest(corpus / "pretrain.tsv")
    loudness, tilt = {"vowel": [], "SIL": [], "s": []}, {"vowel": [], "SIL": [], "s": []}
    for index, rows in phones(corpus, "pretrain").items():
        wave, _ = soundfile.read(manifest.audio_path(index))
        for _, start, end, name in rows:
            kind = "vowel" if name in ("i:", "aI", "eI", "E", "a") else name
            piece = wave[int(start * 16000) : int(end * 16000)]
            if kind in loudness and len(piece) > 400:
                loudness[kind].append(np.sqrt((piece**2).mean()))
                tilt[kind].append((np.diff(piece) ** 2).sum() / (piece**2).sum())
    assert np.median(loudness["vowel"]) > 10 * np.median(loudness["SIL"])
    assert np.median(tilt["s"]) > 5 * np.median(tilt["vowel"])


def test_voices_differ_and_all_are_there(corpus):
    synthesiser = espeak.Synthesiser()
    lengths = {len(synthesiser.say("the old captain", voice, 160, 50)[0]) for voice in demo.VOICES}
    assert len(lengths) > len(demo.VOICES) // 2
    with pytest.raises(UserError, match="no voice 'xx-none'"):
        synthesiser.say("a", "xx-none", 160, 50)
    assert set((corpus / "pretrain.spk").read_text().split()) <= set(demo.VOICES)


def test_the_same_seed_is_the_same_corpus_and_another_is_not(corpus, tmp_path):
    demo.make(str(tmp_path / "same"), minutes=MINUTES)
    for name in ["pretrain.tsv", "test.phn", "dict.ltr.txt", *names(corpus, "pretrain")]:
        assert (tmp_path / "same" / name).read_bytes() == (corpus / name).read_bytes()
    demo.make(str(tmp_path / "other"), minutes=MINUTES, seed=2)
    assert (tmp_path / "other" / "train.wrd").read_text() != (corpus / "train.wrd").read_text()


def test_a_complete_corpus_is_left_alone_and_an_interrupted_one_is_finished(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "_write_split", lambda *unused: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        demo.make(str(tmp_path), minutes=0.05)
    monkeypatch.undo()
    assert not (tmp_path / demo.STAMP).exists()
    assert demo.make(str(tmp_path), minutes=0.05)[0].startswith("written")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert demo.make(str(tmp_path), minutes=0.05)[0].startswith("complete")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_machine_without_espeak_gets_a_way_out(tmp_path, monkeypatch):
    import espeakng_loader

    broken = tmp_path / "libespeak-ng.so"
    broken.write_text("not a library")
    monkeypatch.setattr(espeakng_loader, "get_library_path", lambda: str(broken))
    with pytest.raises(UserError, match="does not load on this machine.*birq-manifest FOLDER"):
        demo.make(str(tmp_path / "out"), minutes=0.05)
    assert not (tmp_path / "out").exists()


def test_pauses_become_one_and_empty_stretches_vanish():
    marks = [(0.1, "'a"), (0.3, "b"), (0.3, "_:"), (0.4, "_"), (0.5, "")]
    got = [(phone.start_s, phone.end_s, phone.name) for phone in espeak._to_phones(marks, 0.6)]
    assert got == [(0.0, 0.1, "SIL"), (0.1, 0.3, "a"), (0.3, 0.6, "SIL")]


def test_the_command_makes_it_or_says_what_is_wrong(tmp_path, capsys):
    assert demo.main([str(tmp_path / "out"), "--minutes", "0.05"]) == 0
    assert "pretrain.tsv" in capsys.readouterr().out and (tmp_path / "out" / "test.phn").is_file()
    assert demo.main([str(tmp_path / "out"), "--minutes", "0"]) == 2
    assert capsys.readouterr().err.startswith("error: --minutes must be > 0")
