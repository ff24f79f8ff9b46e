import numpy as np
import pytest

from fairseq_birq.data.audio import AudioError, read
from fairseq_birq.tools.transcribe.pieces import read_pieces
from tests.fixtures.audio import tone, truncate, write_audio


def words_and_pauses(seconds, rate, word_s=0.7, pause_s=0.3):
    """Words of 0.7 s and pauses of 0.3 s, one after the other."""
    wave = tone(seconds, rate)
    position = np.arange(len(wave)) / rate % (word_s + pause_s)
    return np.where(position < word_s, wave, 0.0).astype(np.float32)


@pytest.mark.parametrize("rate, channels", [(16000, 1), (8000, 1), (44100, 2)])
def test_a_long_recording_is_cut_in_pauses_and_nothing_is_lost(tmp_path, rate, channels):
    wave = words_and_pauses(130.0, rate)
    path = write_audio(tmp_path / "long.flac", np.stack([wave] * channels, 1), rate)
    pieces = list(read_pieces(str(path), 16000, max_seconds=20.0))
    begins = [begin for begin, _ in pieces]
    assert len(pieces) > 6 and begins[0] == 0
    assert all(len(wave) <= 20 * 16000 for _, wave in pieces)
    assert [begin + len(wave) for begin, wave in pieces[:-1]] == begins[1:]
    whole, _ = read(str(path), 16000)
    assert abs(begins[-1] + len(pieces[-1][1]) - len(whole)) <= 1
    places = np.array(begins[1:]) / 16000 % 1.0
    assert ((places > 0.7) & (places < 1.0)).all()  # inside a pause
    if rate == 16000:
        assert np.array_equal(np.concatenate([wave for _, wave in pieces]), whole)


def test_a_short_recording_is_one_piece(tmp_path):
    path = write_audio(tmp_path / "short.wav", tone(3.0))
    ((begin, wave),) = read_pieces(str(path), 16000, max_seconds=20.0)
    assert begin == 0 and np.array_equal(wave, read(str(path), 16000)[0])


def test_a_piece_of_a_file_is_cut_too(tmp_path):
    write_audio(tmp_path / "long.wav", words_and_pauses(60.0, 16000))
    path = f"{tmp_path / 'long.wav'}:160000:480000"
    pieces = list(read_pieces(path, 16000, max_seconds=12.0))
    assert len(pieces) > 2 and sum(len(wave) for _, wave in pieces) == 480000


def test_a_recording_without_a_pause_is_cut_all_the_same(tmp_path):
    path = write_audio(tmp_path / "long.wav", tone(50.0))
    pieces = list(read_pieces(str(path), 16000, max_seconds=10.0))
    assert sum(len(wave) for _, wave in pieces) == 50 * 16000 and max(len(wave) for _, wave in pieces) <= 160000


def test_a_recording_that_ends_early(tmp_path):
    path = truncate(write_audio(tmp_path / "long.flac", words_and_pauses(60.0, 16000)))
    with pytest.raises(AudioError, match="long.flac"):
        list(read_pieces(str(path), 16000, max_seconds=10.0))
