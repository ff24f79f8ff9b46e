import zipfile

import numpy as np
import pytest
from fairseq.data.audio.audio_utils import parse_path

from fairseq_birq.data.audio import AudioError, read, read_header
from fairseq_birq.data.audio_paths import AudioPath, parse_audio_path
from tests.fixtures.audio import tone, truncate, write_audio


@pytest.mark.parametrize(
    "path, expected",
    [
        ("a/b.flac", AudioPath("a/b.flac")),
        ("a/b.flac:16000:800", AudioPath("a/b.flac", 16000, 800)),
        ("a/b.zip:64:1000", AudioPath("a/b.zip", 64, 1000)),
        ("at 10:12:30.wav", AudioPath("at 10:12:30.wav")),
        ("at 10:12:30.wav:5:6", AudioPath("at 10:12:30.wav", 5, 6)),
        ("a.wav:-5:6", AudioPath("a.wav:-5:6")),
        ("a.wav:6", AudioPath("a.wav:6")),
        (":5:6", AudioPath(":5:6")),
    ],
)
def test_a_path_is_plain_unless_it_ends_in_two_numbers(path, expected):
    assert parse_audio_path(path) == expected


def test_what_is_in_a_zip_and_what_is_a_segment():
    places = [parse_audio_path(path) for path in ("a.zip", "a.ZIP:1:2", "a.wav:1:2")]
    assert [place.is_in_zip for place in places] == [False, True, False]
    assert [place.is_segment for place in places] == [False, False, True]


def test_fairseq_reads_our_zip_notation(tmp_path):
    path = f"{tmp_path}/b.zip"
    (tmp_path / "b.zip").write_bytes(b"x")
    place = parse_audio_path(f"{path}:64:1000")
    assert parse_path(f"{path}:64:1000") == (place.file, [place.offset, place.length])


@pytest.mark.parametrize("suffix", ["flac", "wav", "ogg"])
def test_a_segment_is_that_piece_of_the_file(tmp_path, suffix):
    path = write_audio(tmp_path / f"long.{suffix}", tone(2.0))
    whole, _ = read(path, 16000)
    info = read_header(f"{path}:8000:12000", check_samples=True)
    assert (info.num_samples, info.sample_rate) == (12000, 16000)
    wave, frames = read(f"{path}:8000:12000", 16000)
    assert frames == 12000
    np.testing.assert_allclose(wave, whole[8000:20000], atol=1e-4)
    cut, frames = read(f"{path}:8000:12000", 16000, offset=3000, num_samples=20000)
    assert frames == 12000
    np.testing.assert_allclose(cut, whole[11000:20000], atol=1e-4)


def test_a_segment_counts_at_the_files_rate_and_cuts_at_the_wanted_one(tmp_path):
    path = write_audio(tmp_path / "long.wav", tone(2.0, 8000), 8000)
    whole, _ = read(f"{path}:4000:8000", 16000)
    assert len(whole) == 16000
    piece, frames = read(f"{path}:4000:8000", 16000, offset=8000, num_samples=4000)
    assert (len(piece), frames) == (4000, 8000)
    np.testing.assert_allclose(piece[500:-500], whole[8500:11500], atol=5e-3)


def test_a_segment_that_leaves_its_file_is_bad_audio(tmp_path):
    path = write_audio(tmp_path / "long.wav", tone(1.0))
    for part in ("8000:8001", "16000:1", "0:0"):
        with pytest.raises(AudioError, match=f"long.wav:{part}: samples .* not in the file, which has 16000"):
            read(f"{path}:{part}", 16000)
    assert read_header(f"{path}:8000:8000").num_samples == 8000


@pytest.mark.parametrize("suffix", ["flac", "wav", "ogg", "mp3"])
def test_a_file_in_a_zip_reads_like_the_file(tmp_path, suffix):
    files = [write_audio(tmp_path / f"{index}.{suffix}", tone(1.0, seed=index)) for index in range(3)]
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for file in files:
            archive.write(file, file.name)
    content, place = (tmp_path / "x.zip").read_bytes(), files[1].read_bytes()
    path = f"{tmp_path}/x.zip:{content.index(place)}:{len(place)}"
    assert read_header(path, check_samples=True) == read_header(files[1], check_samples=True)
    for cut in ({}, {"offset": 3000, "num_samples": 5000}):
        np.testing.assert_array_equal(read(path, 16000, **cut)[0], read(files[1], 16000, **cut)[0])


def test_bytes_that_are_no_audio_are_named(tmp_path):
    path = write_audio(tmp_path / "a.wav", tone(1.0))
    size = path.stat().st_size
    path.rename(tmp_path / "a.zip")
    assert read_header(f"{tmp_path}/a.zip:0:{size}").num_samples == 16000
    for part, reason in [("44:800", "not readable"), (f"0:{size + 1}", f"truncated, {size} of"), ("0:0", "truncated")]:
        with pytest.raises(AudioError, match=f"a.zip:{part}: {reason}"):
            read(f"{tmp_path}/a.zip:{part}", 16000)
    truncate(tmp_path / "a.zip")
    with pytest.raises(AudioError, match="truncated"):
        read(f"{tmp_path}/a.zip:0:{size}", 16000)
    with pytest.raises(AudioError, match="no such file"):
        read(f"{tmp_path}/b.zip:0:5", 16000)
