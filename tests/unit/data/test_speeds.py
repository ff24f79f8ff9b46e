"""Speed perturbation: drawn by (seed, epoch, id), known before a file is read, and what resampling the whole file gives."""

from types import SimpleNamespace

import numpy as np
import pytest
import soxr

from fairseq_birq.data.audio import read
from fairseq_birq.data.manifest import read_manifest
from fairseq_birq.data.mixture import IDS_PER_COPY, MixtureDataset
from fairseq_birq.data.speeds import Speeds
from fairseq_birq.doors.datasets import FairseqAudioDataset as AudioDataset
from fairseq_birq.errors import UserError
from tests.fixtures.manifests import write_manifest

SPEEDS = (0.9, 1.0, 1.1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_manifest(tmp_path_factory.mktemp("speeds"), seconds=(0.5, 0.7, 0.6, 0.9, 0.8, 0.52))


def dataset(folder, **options):
    return AudioDataset(read_manifest(folder / "train.tsv"), **{"speeds": SPEEDS, "seed": 3, **options})


def test_draws_are_even_and_functions_of_seed_epoch_and_id_alone():
    speeds, ids = Speeds(SPEEDS, 1), np.arange(30000)
    drawn = {epoch: speeds.of(ids, epoch) for epoch in (1, 2)}
    for factor in SPEEDS:
        assert (drawn[1] == factor).mean() == pytest.approx(1 / 3, abs=0.014)  # 5 standard deviations
        assert (drawn[2][drawn[1] == factor] == factor).mean() == pytest.approx(1 / 3, abs=0.024)
    assert np.array_equal(Speeds(SPEEDS, 1).of(ids[::-7], 1), drawn[1][::-7])
    assert all(speeds.of(int(id_), 1) == drawn[1][id_] for id_ in ids[:20])
    assert (Speeds(SPEEDS, 2).of(ids, 1) != drawn[1]).mean() == pytest.approx(2 / 3, abs=0.014)


@pytest.mark.parametrize("max_samples", [None, 8000])
def test_what_is_read_is_that_part_of_the_whole_file_resampled(folder, max_samples):
    data, heard = dataset(folder, max_samples=max_samples), set()
    for epoch in range(1, 5):
        data.set_epoch(epoch)
        for row, factor in enumerate(data.speeds.of(np.arange(len(data)), epoch)):
            whole = read(data.manifest.audio_path(row), 16000)[0]
            whole = soxr.resample(whole, round(16000 * factor), 16000)
            found = data[row]["waveform"].numpy()
            assert len(found) == pytest.approx(data.sizes[row], abs=1) and data.size(row) == data.sizes[row]
            place = data._crop(row, row)[0]
            assert np.allclose(found, whole[place : place + len(found)], atol=1e-5)
            heard.add((row, factor, place > 0))
    assert {factor for _, factor, _ in heard} == set(SPEEDS) and (max_samples is None or any(cut for *_, cut in heard))


def test_batches_are_by_the_lengths_of_the_epoch(folder):
    data, orders = dataset(folder), set()
    assert not data.can_reuse_epoch_itr_across_epochs and dataset(folder, speeds=[1.0]).can_reuse_epoch_itr_across_epochs
    for epoch in range(1, 6):
        data.set_epoch(epoch)
        order = data.ordered_indices()
        lengths = [len(data[row]["waveform"]) for row in order]
        assert lengths == sorted(lengths, reverse=True)
        orders.add(tuple(order))
        for batch in data.batch_by_size(order, max_tokens=24000):
            assert len(batch) * max(data.sizes[batch]) <= 24000
    assert len(orders) > 1


def test_an_utterance_must_be_long_enough_at_every_speed(folder):
    assert dataset(folder, min_samples=8000).usable().tolist() == [1, 2, 3, 4]  # 0.52 s is 0.47 s at 1.1
    assert len(dataset(folder, min_samples=8000, speeds=[1.0]).usable()) == 6


def test_a_mixtures_copies_have_draws_of_their_own(folder):
    mixed = MixtureDataset({"a": dataset(folder), "b": dataset(folder)}, 1.0)
    ids = np.array([row + copy * IDS_PER_COPY for row in range(6) for copy in range(4)])
    sizes = mixed.num_tokens_vec(ids)
    assert [len(mixed[id_]["waveform"]) for id_ in ids] == pytest.approx(sizes, abs=1)
    assert any(len(set(sizes[4 * row : 4 * row + 4])) > 1 for row in range(6))
    assert not mixed.can_reuse_epoch_itr_across_epochs


@pytest.mark.parametrize("speeds", [[], [0.0], [1.0, 3.0], [float("nan")]])
def test_speeds_that_cannot_be_are_said(folder, speeds):
    with pytest.raises(UserError, match="task.speeds"):
        dataset(folder, speeds=speeds)


def test_labels_from_files_are_refused_beside_speeds():
    labels = SimpleNamespace(folder="/labels/train")
    assert Speeds.build([1.0], 1, labels) is None
    with pytest.raises(UserError, match="task.speeds.*/labels/train"):
        Speeds.build(SPEEDS, 1, labels)
