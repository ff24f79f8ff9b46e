import numpy as np
import pytest
import soundfile

from fairseq_birq.data.audio import AudioError, probe, read
from tests.fixtures.audio import tone, truncate, write_audio, write_nan_audio


def test_probe_says_what_was_written(tmp_path):
    path = write_audio(tmp_path / "a.wav", np.stack([tone(0.5, 8000)] * 2, axis=1), 8000)
    info = probe(path)
    assert (info.num_samples, info.sample_rate, info.channels, info.seconds) == (4000, 8000, 2, 0.5)


def test_read_returns_the_samples_within_16_bit_rounding(tmp_path):
    wave = tone(0.5)
    got, file_frames = read(write_audio(tmp_path / "a.flac", wave), 16000)
    assert got.dtype == np.float32 and file_frames == wave.size
    np.testing.assert_allclose(got, wave, atol=1 / 32768)


def test_stereo_becomes_the_mean_of_its_channels(tmp_path):
    left, right = tone(0.5, seed=1), tone(0.5, seed=2)
    got, _ = read(write_audio(tmp_path / "a.flac", np.stack([left, right], axis=1)), 16000)
    np.testing.assert_allclose(got, (left + right) / 2, atol=1 / 32768)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_a_piece_is_that_piece_of_the_whole(tmp_path, suffix):
    path = write_audio(tmp_path / f"a.{suffix}", tone(2.0))
    whole, _ = read(path, 16000)
    piece, file_frames = read(path, 16000, offset=5000, num_samples=7000)
    assert file_frames == whole.size
    np.testing.assert_allclose(piece, whole[5000:12000], atol=0.02 if suffix == "mp3" else 1e-4)


def test_another_rate_keeps_a_sine_and_its_duration(tmp_path):
    seconds, pitch = 1.0, 440.0
    path = write_audio(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * pitch * np.arange(8000) / 8000), 8000)
    got, file_frames = read(path, 16000)
    assert file_frames == 8000 and abs(got.size - seconds * 16000) <= 1
    expected = 0.5 * np.sin(2 * np.pi * pitch * np.arange(got.size) / 16000)
    np.testing.assert_allclose(got[500:-500], expected[500:-500], atol=2e-3)


def test_offset_and_length_count_at_the_wanted_rate(tmp_path):
    path = write_audio(tmp_path / "a.wav", tone(2.0, 8000), 8000)
    whole, _ = read(path, 16000)
    piece, _ = read(path, 16000, offset=8000, num_samples=4001)
    assert piece.size == 4001
    np.testing.assert_allclose(piece[500:-500], whole[8500:11501], atol=5e-3)


def test_real_speech_at_8_khz_is_resampled(fsdd):
    path = fsdd / "george" / "0_george_0.flac"
    got, file_frames = read(path, 16000)
    assert abs(got.size - 2 * file_frames) <= 1 and 0.001 < np.abs(got).max() <= 1


@pytest.mark.parametrize("suffix", ["flac", "ogg", "wav", "mp3"])
def test_truncated_audio_is_never_taken_for_whole(tmp_path, suffix):
    path = write_audio(tmp_path / f"a.{suffix}", tone(3.0))
    frames = probe(path).num_samples
    truncate(path, 0.6)
    try:
        wave, seen_frames = read(path, 16000)
    except AudioError as error:
        assert str(path) in str(error)
        return
    assert seen_frames == wave.size < frames  # the header no longer claims the lost part: manifests notice


def test_probe_can_look_at_the_end_of_a_flac(tmp_path):
    path = truncate(write_audio(tmp_path / "a.flac", tone(3.0)), 0.6)
    assert probe(path).num_samples == 48000
    with pytest.raises(AudioError, match="truncated"):
        probe(path, check_end=True)


def test_bad_files_are_named_with_the_reason(tmp_path):
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("this is no audio at all\n" * 50)
    soundfile.write(str(tmp_path / "silent.wav"), np.zeros(0), 16000)
    write_nan_audio(tmp_path / "nan.wav")
    expected = {
        "empty.wav": "0 bytes",
        "text.wav": "not readable",
        "silent.wav": "no samples",
        "nan.wav": "not finite",
        "absent.wav": "no such file",
    }
    for name, reason in expected.items():
        with pytest.raises(AudioError, match=f"{name}: .*{reason}"):
            read(tmp_path / name, 16000)
