"""Noises and impulse responses in memory: which, how many, at which rate, and what cannot be used."""

import numpy as np
import pytest
import torch

from fairseq_birq.disturbance.recordings import Recordings
from fairseq_birq.errors import UserError
from tests.fixtures.audio import tone, write_audio


def recordings(path, **changes):
    return Recordings("model.disturbance.noise.manifest", str(path), **{"sample_rate": 16000, "max_minutes": 60.0, **changes})


def write(folder, *waves_and_rates):
    lines = [str(folder)]
    for index, (wave, rate) in enumerate(waves_and_rates):
        write_audio(folder / f"{index}.wav", wave, rate)
        lines.append(f"{index}.wav\t{len(wave)}")
    (folder / "noise.tsv").write_text("\n".join(lines) + "\n")
    return folder / "noise.tsv"


def test_recordings_are_those_of_the_files_and_resampled(tmp_path):
    bank = recordings(write(tmp_path, (tone(1.0, 8000), 8000), (tone(0.5, 8000, seed=1), 8000)))
    bank.open()
    assert sorted(bank.lengths.tolist()) == [8000, 16000]
    assert bank.samples(torch.device("cpu")).shape == (24000,)


def test_a_long_manifest_fills_the_memory_that_is_allowed_alike_in_every_run(tmp_path):
    path = write(tmp_path, *((tone(1.0, seed=index), 16000) for index in range(6)))
    first, again = (recordings(path, max_minutes=2.5 / 60) for _ in range(2))
    first.open()
    assert first.lengths.tolist() == [16000, 16000, 8000]
    assert torch.equal(first.samples(torch.device("cpu")), again.samples(torch.device("cpu")))


def test_nothing_is_read_before_it_is_needed(tmp_path):
    assert len(recordings(tmp_path / "missing.tsv")) == 0


def silent(folder):
    return write(folder, (tone(0.5), 16000), (np.zeros(800), 16000)), ("silent", "1.wav")


def other_rate(folder):
    return write(folder, (tone(0.5), 16000), (tone(0.5, 8000), 8000)), ("8000 Hz", "birq-manifest")


def no_rows(folder):
    (folder / "noise.tsv").write_text(f"{folder}\n")
    return folder / "noise.tsv", ("no rows", "birq-manifest")


def missing(folder):
    return folder / "noise.tsv", ("no such manifest",)


def missing_file(folder):
    path = write(folder, (tone(0.5), 16000))
    (folder / "0.wav").unlink()
    return path, ("0.wav", "no such file")


@pytest.mark.parametrize("fault", [silent, other_rate, no_rows, missing, missing_file])
def test_what_cannot_be_used_is_said_with_the_setting(tmp_path, fault):
    path, words = fault(tmp_path)
    with pytest.raises(UserError) as error:
        recordings(path).open()
    assert all(word in str(error.value) for word in ("model.disturbance.noise.manifest", *words))
