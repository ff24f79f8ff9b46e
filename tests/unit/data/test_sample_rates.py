"""Files of several sample rates in one manifest: each has its own, or is bad audio that is counted."""

from collections import Counter

import numpy as np
import pytest

from fairseq_birq.cli.manifest import main as birq_manifest
from fairseq_birq.corpora import make
from fairseq_birq.data.dataset import AudioDataset
from fairseq_birq.data.manifest import rates_path, read_manifest, read_rates
from fairseq_birq.errors import UserError
from fairseq_birq.tools.doctor.checks import OK, PROBLEM
from fairseq_birq.tools.doctor.data import _judge_rates
from tests.fixtures.audio import tone, write_audio

RATES = [48000, 16000, 8000, 16000, 44100, 48000]


@pytest.fixture
def folder(tmp_path):
    for index, rate in enumerate(RATES):
        write_audio(tmp_path / "audio" / f"{index}.wav", tone(2.0 + index, rate, seed=index), rate)
    assert birq_manifest([str(tmp_path / "audio"), str(tmp_path / "out"), "--valid-fraction", "0"]) == 0
    return tmp_path / "out"


@pytest.mark.parametrize("max_samples", [None, 24000])
def test_every_file_is_read_at_its_own_rate_whole_and_cut(folder, max_samples):
    dataset = AudioDataset(read_manifest(folder / "train.tsv"), 16000, max_samples=max_samples)
    whole = [16000 * (2 + index) for index in range(6)]
    wanted = whole if max_samples is None else [max_samples] * 6
    assert dataset.sizes.tolist() == wanted == dataset.num_tokens_vec(np.arange(6)).tolist()
    for epoch in (1, 2, 3):
        dataset.set_epoch(epoch)
        assert [len(dataset[row]["waveform"]) for row in range(6)] == pytest.approx(wanted, abs=1)


def test_a_manifest_that_tells_no_rates_counts_files_of_another_rate_as_bad(folder):
    rates_path(folder / "train.tsv").unlink()
    dataset = AudioDataset(read_manifest(folder / "train.tsv"), 16000, max_samples=24000, bad_audio_budget=1.0)
    batch = dataset.collater([dataset[row] for row in range(6)])
    assert batch["bad_audio"] == 4 and batch["id"].tolist() == [0, 5]  # 48 kHz, as the first
    assert "is at 16000 Hz where its manifest's files are at 48000 Hz" in dataset[1]["bad"]


def test_files_of_one_rate_need_no_list_of_rates_and_an_old_one_goes(tmp_path, folder):
    for rate in set(RATES) - {16000}:
        for index in (index for index, of in enumerate(RATES) if of == rate):
            (tmp_path / "audio" / f"{index}.wav").unlink()
    make("audio_folder", folder=str(tmp_path / "audio"), out=str(folder), valid_fraction=0)
    assert not rates_path(folder / "train.tsv").exists()
    assert read_rates(read_manifest(folder / "train.tsv")) is None


@pytest.mark.parametrize("line", ["", "0", "-16000", "16k", "9" * 40, "16000.0"])
def test_a_damaged_list_of_rates_is_an_error_that_names_its_line(folder, line):
    path = rates_path(folder / "train.tsv")
    path.write_text("\n".join(["16000"] * 5 + [line]) + "\n")
    with pytest.raises(UserError, match=r"train\.rate:6: "):
        read_rates(read_manifest(folder / "train.tsv"))


def test_the_doctor_says_which_rates_there_are_and_whether_the_manifest_knows_them(folder):
    manifest = read_manifest(folder / "train.tsv")
    (check,) = _judge_rates(manifest, 16000, Counter(RATES))
    assert check.status == OK and "2 at 48000 Hz" in check.text
    rates_path(manifest.path).unlink()
    (check,) = _judge_rates(manifest, 16000, Counter(RATES))
    assert check.status == PROBLEM and "birq-manifest" in check.text
