"""Every format that is read, whole and cut short: a part must never pass for the whole."""

import io

import numpy as np
import pytest
import soundfile

from fairseq_birq.data.audio import SUFFIXES, AudioError, read, read_header
from tests.fixtures.audio import tone

FORMATS = {
    "a.wav": ("WAV", "PCM_16"),
    "float.wav": ("WAV", "FLOAT"),
    "ex.wav": ("WAVEX", "PCM_24"),
    "a.rf64": ("RF64", "PCM_16"),
    "a.w64": ("W64", "PCM_16"),
    "a.aiff": ("AIFF", "PCM_16"),
    "a.aif": ("AIFF", "PCM_24"),
    "a.aifc": ("AIFF", "FLOAT"),
    "a.au": ("AU", "PCM_16"),
    "a.snd": ("AU", "ULAW"),
    "a.caf": ("CAF", "PCM_16"),
    "a.sph": ("NIST", "PCM_16"),
    "a.flac": ("FLAC", "PCM_16"),
    "a.ogg": ("OGG", "VORBIS"),
    "a.oga": ("OGG", "VORBIS"),
    "a.opus": ("OGG", "OPUS"),
    "a.mp3": ("MP3", "MPEG_LAYER_III"),
}


@pytest.fixture(params=FORMATS)
def whole(tmp_path, request):
    kind, subtype = FORMATS[request.param]
    soundfile.write(str(tmp_path / request.param), tone(2.0), 16000, format=kind, subtype=subtype)
    return tmp_path / request.param


def test_every_suffix_is_among_them():
    assert {name[name.rindex(".") :] for name in FORMATS} == set(SUFFIXES)


def test_a_whole_file_is_good(whole):
    info = read_header(str(whole), check_samples=True)
    wave, frames = read(str(whole), 16000)
    assert (
        info.seconds == pytest.approx(2.0, abs=0.1) and frames == info.num_samples and len(wave) == pytest.approx(32000, abs=1600)
    )


@pytest.mark.parametrize("kept", [0.01, 0.3, 0.5, 0.9, 0.97])
def test_a_file_that_is_cut_short_is_refused_by_a_scan_and_by_reading(whole, kept):
    content = whole.read_bytes()
    whole.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(AudioError, match=whole.name):
        read_header(str(whole), check_samples=True)
    with pytest.raises(AudioError, match=whole.name):
        read(str(whole), 16000)


@pytest.mark.parametrize("length", [b"\xff\xff\xff\xff", b"\x00\x00\x00\x00"])
def test_a_stream_of_unknown_length_is_no_truncated_file(tmp_path, length):
    """As a program writes it into a pipe."""
    memory = io.BytesIO()
    soundfile.write(memory, np.zeros(1600, np.float32), 16000, format="WAV", subtype="PCM_16")
    content = bytearray(memory.getvalue())
    content[4:8], content[40:44] = b"\xff\xff\xff\xff", length
    (tmp_path / "piped.wav").write_bytes(bytes(content))
    try:
        read(str(tmp_path / "piped.wav"), 16000)
    except AudioError as error:
        assert "truncated" not in str(error)


def test_bytes_after_the_audio_do_no_harm(tmp_path):
    soundfile.write(str(tmp_path / "a.wav"), tone(1.0), 16000)
    with open(tmp_path / "a.wav", "ab") as file:
        file.write(b"LIST\x04\x00\x00\x00abcd")
    assert read_header(str(tmp_path / "a.wav"), check_samples=True).num_samples == 16000
