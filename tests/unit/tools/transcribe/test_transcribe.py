import numpy as np
import pytest
import torch

from fairseq_birq.data.audio import read
from fairseq_birq.errors import UserError
from fairseq_birq.tools.transcribe.recogniser import load_recogniser
from fairseq_birq.tools.transcribe.recordings import Recording, find_recordings
from fairseq_birq.tools.transcribe.transcribe import transcribe
from fairseq_birq.tools.transcribe.words import Failure
from tests.fixtures.audio import tone, write_audio
from tests.fixtures.checkpoints import CTC_SYMBOLS, write_ctc_checkpoint
from tests.fixtures.manifests import write_manifest


def greedy_text(model, path):
    """What the model says of a whole recording alone, spelt out by hand."""
    wave = torch.from_numpy(read(str(path), 16000)[0])[None]
    with torch.no_grad():
        logits = model(wave).logits[0]
    logits[:, 1:4] = -float("inf")
    path = logits.argmax(-1).tolist()
    letters = [CTC_SYMBOLS[now] for before, now in zip([None, *path], path) if now != before and now != 0]
    return " ".join("".join(letters).replace("|", " ").split())


def run(recogniser, recordings, **settings):
    return list(transcribe(recogniser, recogniser.decoder(), recordings, **settings))


def recordings_of(folder, *seconds, rate=16000):
    paths = [write_audio(folder / f"{index}.flac", tone(one, rate, index), rate) for index, one in enumerate(seconds)]
    return [Recording(path.name, str(path)) for path in paths]


@pytest.mark.parametrize("settings", [{}, {"upsample": 2}])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_texts_of_a_batch_are_those_of_the_recordings_alone(tmp_path, settings, rate):
    model = write_ctc_checkpoint(tmp_path / "ctc.pt", **settings)
    recordings = recordings_of(tmp_path, 2.0, 0.7, 3.1, 1.4, rate=rate)
    found = run(load_recogniser(tmp_path / "ctc.pt"), recordings)
    assert [one.name for one in found] == [one.name for one in recordings]
    texts = [greedy_text(model, one.path) for one in recordings]
    assert [one.text for one in found] == texts
    assert len(set(texts)) > 1 and all(len(set(text)) > 2 for text in texts)  # the model says something
    for one in found:
        times = [time for word in one.words for time in (word.start_s, word.end_s)]
        assert times == sorted(times) and times[-1] <= one.seconds + 1e-6


def test_long_recordings_share_batches_with_short_ones_and_all_come_back_in_order(tmp_path):
    write_ctc_checkpoint(tmp_path / "ctc.pt")
    recogniser, recordings = load_recogniser(tmp_path / "ctc.pt"), recordings_of(tmp_path, 9.0, 0.5, 7.0, 1.0)
    together = run(recogniser, recordings, max_seconds=2.0, batch_seconds=3.0)
    alone = [run(recogniser, [one], max_seconds=2.0)[0] for one in recordings]
    assert [(one.name, one.text) for one in together] == [(one.name, one.text) for one in alone]
    assert together[0].seconds == 9.0
    times = [word.start_s for word in together[0].words]
    assert times == sorted(times) and max(times) > 7.0


def test_what_cannot_be_read_is_named_and_the_rest_goes_on(tmp_path):
    write_ctc_checkpoint(tmp_path / "ctc.pt")
    recordings = recordings_of(tmp_path, 1.0, 1.0)
    (tmp_path / "bad.wav").write_bytes(b"no audio")
    recordings[1:1] = [Recording("bad.wav", str(tmp_path / "bad.wav")), Recording("gone.wav", str(tmp_path / "gone.wav"))]
    first, bad, gone, last = run(load_recogniser(tmp_path / "ctc.pt"), recordings)
    assert isinstance(bad, Failure) and "not readable as audio" in bad.reason
    assert isinstance(gone, Failure) and "no such file" in gone.reason
    assert first.text and last.text


def test_recordings_too_short_for_a_frame_have_no_text(tmp_path):
    write_ctc_checkpoint(tmp_path / "ctc.pt")
    paths = [write_audio(tmp_path / f"{count}.wav", tone(1.0)[:count]) for count in (1, 400, 879)]
    found = run(load_recogniser(tmp_path / "ctc.pt"), [Recording(path.name, str(path)) for path in paths])
    assert [one.text for one in found] == ["", "", ""]


def test_audio_files_folders_and_manifests(tmp_path):
    folder = write_manifest(tmp_path / "data", "test", seconds=(0.5, 0.6))
    single = str(write_audio(tmp_path / "single.wav", tone(0.5)))
    found = find_recordings([single, str(folder), str(folder / "test.tsv")])
    assert [one.name for one in found] == [single, *["test/0000.flac", "test/0001.flac"] * 2]
    assert all(np.size(read(one.path, 16000)[0]) for one in found)
    with pytest.raises(UserError, match="no wav, flac"):
        find_recordings([str(tmp_path / "data" / "empty") if (tmp_path / "data" / "empty").mkdir() is None else ""])


def test_letters_come_from_the_checkpoint_or_from_a_dictionary_beside_it(tmp_path):
    write_ctc_checkpoint(tmp_path / "ctc.pt")
    content = torch.load(str(tmp_path / "ctc.pt"), weights_only=True)
    del content["task_state"]
    torch.save(content, str(tmp_path / "old.pt"))
    (tmp_path / "dict.ltr.txt").write_text("| 4\na 3\nb 2\nc 1\nd 1\n")
    assert load_recogniser(tmp_path / "ctc.pt").symbols == CTC_SYMBOLS
    assert load_recogniser(tmp_path / "old.pt", tmp_path / "dict.ltr.txt").symbols == CTC_SYMBOLS
    assert load_recogniser(tmp_path / "ctc.pt", tmp_path / "dict.ltr.txt").symbols == CTC_SYMBOLS
    with pytest.raises(UserError, match="holds no letters: give the `dict.ltr.txt`"):
        load_recogniser(tmp_path / "old.pt")
    (tmp_path / "dict.ltr.txt").write_text("| 4\na 3\n")
    with pytest.raises(UserError, match="scores of 9 symbols, but the dictionary has 6"):
        load_recogniser(tmp_path / "old.pt", tmp_path / "dict.ltr.txt")
    with pytest.raises(UserError, match="has other letters than checkpoint"):
        load_recogniser(tmp_path / "ctc.pt", tmp_path / "dict.ltr.txt")


@pytest.mark.parametrize("settings", [{"max_seconds": 0.5}, {"batch_seconds": 0.0}])
def test_settings_out_of_range(tmp_path, settings):
    write_ctc_checkpoint(tmp_path / "ctc.pt")
    with pytest.raises(UserError, match="pieces must be at least 0.8 s"):
        run(load_recogniser(tmp_path / "ctc.pt"), [], **settings)


def test_a_device_that_is_not_there(tmp_path):
    write_ctc_checkpoint(tmp_path / "ctc.pt")
    with pytest.raises(UserError, match="cannot be used on"):
        load_recogniser(tmp_path / "ctc.pt", device="cuda:97")
