import numpy as np
import pytest
import soundfile

from fairseq_birq.data.audio import AudioError, read, read_header
from tests.fixtures.audio import tone, truncate, write_audio, write_nan_audio


def test_probe_says_what_was_written(tmp_path):
    path = write_audio(tmp_path / "a.wav", np.stack([tone(0.5, 8000)] * 2, axis=1), 8000)
    info = read_header(path)
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


@pytest.mark.parametrize("others", [[-1.0], [-0.99], [0.5, -1.5]])
def test_a_file_whose_channels_cancel_is_bad_audio_whichever_piece_is_read(tmp_path, others):
    """As stereo with one channel turned over, whose mean is silence."""
    silence = np.zeros(40000)  # longer than what is judged
    wave = np.concatenate([silence, tone(4.0), silence])
    path = write_audio(tmp_path / "a.wav", np.stack([wave, *(share * wave for share in others)], axis=1))
    for piece in ({}, {"num_samples": 8000}, {"offset": 40000, "num_samples": 8000}, {"offset": 90000}):
        with pytest.raises(AudioError, match="its channels cancel"):
            read(path, 16000, **piece)
    assert read_header(path).channels == 1 + len(others)
    with pytest.raises(AudioError, match="its channels cancel"):
        read_header(path, check_samples=True)


@pytest.mark.parametrize("others", [[0.0], [-0.5], [0.0] * 7, [0.0, -0.7]])
def test_channels_that_cancel_in_part_are_their_mean(tmp_path, others):
    """Also in a piece where they cancel: a piece is that piece of the whole."""
    wave, end = tone(3.0), tone(0.5, seed=1)
    channels = np.stack([np.append(wave, end), *(np.append(share * wave, -end / len(others)) for share in others)], axis=1)
    path = write_audio(tmp_path / "a.wav", channels)
    np.testing.assert_allclose(read(path, 16000)[0], channels.mean(axis=1), atol=1e-4)
    np.testing.assert_allclose(read(path, 16000, offset=len(wave))[0], 0, atol=1e-4)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "opus"])
def test_a_piece_is_that_piece_of_the_whole(tmp_path, suffix):
    path = write_audio(tmp_path / f"a.{suffix}", tone(2.0))
    whole, _ = read(path, 16000)
    piece, file_frames = read(path, 16000, offset=5000, num_samples=7000)
    assert file_frames == whole.size
    np.testing.assert_allclose(piece, whole[5000:12000], atol=1e-4)


@pytest.mark.parametrize("rate", [8000, 11025, 12345, 22050, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_piece_of_a_resampled_file_is_that_piece_of_the_whole(tmp_path, rate, channels):
    """Noise shows a shift by a part of a sample, and the edges of a filter."""
    noise = np.random.default_rng(rate).normal(0, 0.1, (2 * rate, channels))
    path = write_audio(tmp_path / "a.wav", noise, rate)
    whole, _ = read(path, 16000)
    for offset, count in ((0, 1000), (1, 4001), (799, 800), (8001, 7000), (20001, -1), (31999, 1), (31000, 5000), (40000, 100)):
        piece, _ = read(path, 16000, offset=offset, num_samples=count)
        wanted = whole[offset:] if count < 0 else whole[offset : offset + count]
        assert piece.shape == wanted.shape
        np.testing.assert_allclose(piece, wanted, atol=1e-5)


def test_another_rate_keeps_a_sine_and_its_duration(tmp_path):
    seconds, pitch = 1.0, 440.0
    path = write_audio(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * pitch * np.arange(8000) / 8000), 8000)
    got, file_frames = read(path, 16000)
    assert file_frames == 8000 and abs(got.size - seconds * 16000) <= 1
    expected = 0.5 * np.sin(2 * np.pi * pitch * np.arange(got.size) / 16000)
    np.testing.assert_allclose(got[500:-500], expected[500:-500], atol=2e-3)


def test_real_speech_at_8_khz_is_resampled(fsdd):
    path = fsdd / "george" / "0_george_0.flac"
    got, file_frames = read(path, 16000)
    assert abs(got.size - 2 * file_frames) <= 1 and 0.001 < np.abs(got).max() <= 1


@pytest.mark.parametrize("suffix", ["flac", "ogg", "wav", "mp3"])
def test_truncated_audio_is_never_taken_for_whole(tmp_path, suffix):
    path = write_audio(tmp_path / f"a.{suffix}", tone(3.0))
    frames = read_header(path).num_samples
    truncate(path, 0.6)
    try:
        wave, seen_frames = read(path, 16000)
    except AudioError as error:
        assert str(path) in str(error)
        return
    assert seen_frames == wave.size < frames  # the header no longer claims the lost part: manifests notice


def test_probe_can_look_at_the_end_of_a_flac(tmp_path):
    path = truncate(write_audio(tmp_path / "a.flac", tone(3.0)), 0.6)
    assert read_header(path).num_samples == 48000
    with pytest.raises(AudioError, match="truncated"):
        read_header(path, check_samples=True)


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
