import numpy as np
import pytest

from fairseq_birq.corpora.helpers.silence import equal_cuts, quiet_cuts
from fairseq_birq.corpora.libri_light import make, speaker
from fairseq_birq.data.audio import read
from fairseq_birq.data.manifest import read_manifest
from fairseq_birq.errors import UserError
from tests.fixtures.audio import tone, write_audio
from tests.fixtures.corpus_trees import RATE, bursts, libri_light


def pieces(out):
    """{file: [(begin, samples)]} of both splits."""
    found = {}
    for split in ("train", "valid"):
        manifest = read_manifest(out / f"{split}.tsv")
        for row in range(len(manifest)):
            name, begin, count = manifest.name(row).rsplit(":", 2)
            found.setdefault(name, []).append((int(begin), int(count)))
    return found


@pytest.mark.parametrize("cut", ["silence", "length"])
def test_pieces_cover_every_file_once(tmp_path, cut):
    options = libri_light(tmp_path / "in")
    lines = make(out=str(tmp_path / "out"), cut=cut, **options)
    found = pieces(tmp_path / "out")
    assert len(found) == 3
    for stretches in found.values():
        ends = [begin + count for begin, count in stretches]
        assert [begin for begin, _ in stretches] == [0, *ends[:-1]] and ends[-1] == 12 * RATE
        assert all(1.25 * RATE <= count <= 5 * RATE for _, count in stretches)
    assert "warning     small: 0.0 h instead of 577 h (facebookresearch/libri-light, data_preparation)" in lines


def test_whole_speakers_are_held_out(tmp_path):
    make(out=str(tmp_path / "out"), **libri_light(tmp_path / "in"))
    manifests = [read_manifest(tmp_path / "out" / f"{split}.tsv") for split in ("train", "valid")]
    speakers = [{manifest.name(row).split("/")[1] for row in range(len(manifest))} for manifest in manifests]
    assert sorted(map(len, speakers)) == [1, 2] and not speakers[0] & speakers[1]
    assert [speaker(path) for path in ("small/9/book/a.flac:0:3", "9/book/a.flac", "9/a.flac", "a.flac")] == [
        "small/9", "9", "9", ".",
    ]  # fmt: skip


def test_of_one_speaker_files_are_held_out(tmp_path):
    for name in "abc":
        write_audio(tmp_path / "in" / f"{name}.wav", tone(7.0))
    make(str(tmp_path / "in"), str(tmp_path / "out"), cut="length", piece_seconds=2.0, valid_fraction=0.4)
    assert [len(read_manifest(tmp_path / "out" / f"{split}.tsv")) for split in ("train", "valid")] == [8, 4]


def test_files_may_stay_whole(tmp_path):
    make(out=str(tmp_path / "out"), cut="none", **libri_light(tmp_path / "in"))
    manifest = read_manifest(tmp_path / "out" / "train.tsv")
    assert list(manifest.num_samples) == [12 * RATE] * 2 and ":" not in manifest.name(0)


def test_cuts_lie_in_the_pauses(tmp_path):
    """Pauses are in the first 0.3 s of every 1.5 s; the reference looks for the quietest 0.2 s by itself, sample by sample."""
    path = write_audio(tmp_path / "a.flac", bursts(30.0))
    ends = quiet_cuts(str(path), 5 * RATE)
    assert ends[-1] == 30 * RATE and len(ends) >= 6
    assert all((end / RATE) % 1.5 < 0.3 for end in ends[:-1])
    wave, _ = read(str(path), RATE)
    energy = np.convolve(wave.astype(np.float64) ** 2, np.ones(3200), "valid")
    for begin, end in zip([0, *ends], ends[:-1]):
        allowed = energy[begin + RATE * 5 // 2 - 1600 : begin + 5 * RATE - 1600]
        assert energy[end - 1600] <= 1.5 * allowed.min()


def test_loud_recordings_are_cut_too_and_long_ones_in_little_memory(tmp_path):
    path = write_audio(tmp_path / "a.wav", tone(70.0))  # more than one block
    ends = quiet_cuts(str(path), 20 * RATE)
    lengths = np.diff([0, *ends])
    assert ends[-1] == 70 * RATE and lengths[:-1].min() >= 10 * RATE - 320 and lengths.max() <= 20 * RATE
    assert lengths[-1] >= 5 * RATE - 320
    stereo = write_audio(tmp_path / "b.wav", np.stack([tone(70.0), 0 * tone(70.0)], axis=1))
    assert quiet_cuts(str(stereo), 20 * RATE) == ends


def test_equal_pieces():
    assert equal_cuts(100, 30) == [25, 50, 75, 100] and equal_cuts(30, 30) == [30] and equal_cuts(31, 30) == [15, 31]


@pytest.mark.parametrize("seconds", [0, 0.5, float("nan"), float("inf")])
def test_a_length_out_of_range_is_refused(tmp_path, seconds):
    with pytest.raises(UserError, match="--piece-seconds must be >= 1"):
        make(str(tmp_path), str(tmp_path / "out"), piece_seconds=seconds)


def test_real_speech_is_cut_between_words(mboshi, tmp_path):
    """Mboshi utterances joined to one recording: the aligned phones (LIMSI's) say which cuts hit speech."""
    manifest = read_manifest(mboshi / "dev.tsv")
    waves = [read(manifest.audio_path(row), RATE)[0] for row in range(60)]
    starts = np.cumsum([0, *map(len, waves)]) / RATE
    path = write_audio(tmp_path / "a.flac", np.concatenate(waves))
    speech = []
    for line in (mboshi / "dev.limsi.phn").read_text().splitlines()[1:]:
        row, _, start, end, phone = line.split("\t")[:5]
        if int(row) < 60 and phone != "SIL":
            speech.append((starts[int(row)] + float(start), starts[int(row)] + float(end)))

    def share_in_speech(ends):
        return np.mean([any(start < end / RATE < stop for start, stop in speech) for end in ends[:-1]])

    quiet = share_in_speech(quiet_cuts(str(path), 10 * RATE))
    equal = share_in_speech(equal_cuts(sum(map(len, waves)), 5 * RATE))
    print(f"cuts in speech: {quiet:.2f} at silence, {equal:.2f} of equal pieces")
    assert quiet <= 0.1 and equal >= 0.5
