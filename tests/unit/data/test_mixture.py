import logging
from collections import Counter

import numpy as np
import pytest
import torch
from fairseq.data import data_utils
from fairseq.data.iterators import EpochBatchIterator

from fairseq_birq.data.dataset import IDS_PER_PART, raise_user_error
from fairseq_birq.data.manifest import read_manifest
from fairseq_birq.data.mixture import IDS_PER_COPY
from fairseq_birq.doors.datasets import FairseqAudioDataset as AudioDataset
from fairseq_birq.doors.datasets import FairseqMixtureDataset as MixtureDataset
from fairseq_birq.errors import UserError
from tests.fixtures.audio import truncate
from tests.fixtures.manifests import write_manifest

BIG, SMALL = [0.3] * 16 + [0.02], [0.4] * 2  # the 17th is too short


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpora")
    return {name: write_manifest(root / name, seconds=seconds) for name, seconds in [("big", BIG), ("small", SMALL)]}


def mixture(folders, alpha=0.5, **options):
    def corpus(folder):
        return AudioDataset(read_manifest(folder / "train.tsv"), min_samples=800, **options)

    return MixtureDataset({name: corpus(folder) for name, folder in folders.items()}, alpha, seed=5)


def of_epoch(dataset, epoch, seed=1):
    """(corpus, row, copy) of what an epoch has, in the order of the batches."""
    dataset.set_epoch(epoch)
    with data_utils.numpy_seed(seed + epoch):
        indices = dataset.ordered_indices()
    return [(int(i) // IDS_PER_PART % 1024, int(i) % IDS_PER_PART, int(i) // IDS_PER_COPY) for i in indices]


def test_alpha_1_is_every_long_enough_utterance_once_an_epoch(folders):
    dataset = mixture(folders, 1.0)
    expected = [(0, row, 0) for row in range(16)] + [(1, row, 0) for row in range(2)]
    assert sorted(of_epoch(dataset, 1)) == sorted(of_epoch(dataset, 7)) == expected
    assert of_epoch(dataset, 1) != of_epoch(dataset, 2) and len(dataset) == 19


def test_validation_is_every_utterance_once_in_the_same_batches(folders):
    dataset = mixture(folders, None)
    assert sorted(of_epoch(dataset, 1)) == sorted(of_epoch(mixture(folders, 1.0), 1))
    assert dataset.can_reuse_epoch_itr_across_epochs and not mixture(folders, 1.0).can_reuse_epoch_itr_across_epochs


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 2.0])
def test_shares_are_hours_to_the_power(folders, caplog, alpha):
    with caplog.at_level(logging.INFO):
        dataset = mixture(folders, alpha)
    hours = np.array([16 * 0.3, 2 * 0.4]) / 3600
    shares = hours**alpha / (hours**alpha).sum()
    expected = np.maximum(np.round(shares * hours.sum() * 3600 / [0.3, 0.4]), 1)  # utterances
    assert dataset.utterances_per_epoch == expected.tolist()
    assert Counter(corpus for corpus, _, _ in of_epoch(dataset, 3)) == dict(enumerate(expected))
    lines = [line for line in caplog.messages if line.startswith("corpus ")]
    assert len(lines) == 2 and f"weight {(hours**alpha)[0]:.3g} (hours^{alpha:g}), {100 * shares[0]:.1f} %" in lines[0]
    assert f"{expected[0]:.0f} utterances an epoch of the 16 it has" in lines[0]


def test_every_utterance_comes_once_before_any_comes_again(folders):
    dataset = mixture(folders, 0.0)  # 9 of big's 16, 7 of small's 2: three and a half times
    assert dataset.utterances_per_epoch == [9, 7]
    seen = Counter()
    for epoch in range(1, 17):
        items = of_epoch(dataset, epoch)
        assert len(set(items)) == len(items) == 16
        seen.update((corpus, row) for corpus, row, _ in items)
        for corpus, total in [(0, 16), (1, 2)]:
            times = [seen[corpus, row] for row in range(total)]
            assert max(times) - min(times) <= 1
    assert {seen[0, row] for row in range(16)} == {9} and {copy for _, _, copy in of_epoch(dataset, 2)} > {0, 1}


def test_an_epoch_depends_on_seed_and_epoch_alone(folders):
    one, two = mixture(folders), mixture(folders)
    of_epoch(two, 3)
    assert of_epoch(one, 4) == of_epoch(two, 4) != of_epoch(one, 5)
    swapped = mixture(dict(reversed(list(folders.items()))))
    assert {(1 - corpus, row) for corpus, row, _ in of_epoch(swapped, 4)} == {item[:2] for item in of_epoch(one, 4)}
    other = mixture(folders, 0.0)
    other.seed = 6
    assert {item[:2] for item in of_epoch(other, 2)} != {item[:2] for item in of_epoch(mixture(folders, 0.0), 2)}


def iterator(dataset, epoch, rank=0, world=1, num_workers=0):
    dataset.set_epoch(epoch)
    with data_utils.numpy_seed(1 + epoch):
        batches = dataset.batch_by_size(dataset.ordered_indices(), max_tokens=15000)
    return EpochBatchIterator(
        dataset, dataset.collater, batches, seed=1, epoch=epoch, num_shards=world, shard_id=rank, num_workers=num_workers
    )


def ids(batches):
    return [batch["id"].tolist() for batch in batches if batch]


def test_an_epoch_goes_on_where_it_stopped(folders):
    whole = ids(iterator(mixture(folders, 0.0), 3).next_epoch_itr())
    first = iterator(mixture(folders, 0.0), 3)
    epoch = first.next_epoch_itr()
    begun = [next(epoch)["id"].tolist() for _ in range(3)]
    second = iterator(mixture(folders, 0.0), 3)
    second.load_state_dict(first.state_dict())
    assert begun + ids(second.next_epoch_itr()) == whole


def test_processes_share_an_epoch_and_none_has_anothers(folders):
    alone = sum(ids(iterator(mixture(folders, 0.0), 2).next_epoch_itr()), [])
    parts = [sum(ids(iterator(mixture(folders, 0.0), 2, rank, 3).next_epoch_itr()), []) for rank in range(3)]
    assert sorted(sum(parts, [])) == sorted(alone) and len(set(alone)) == len(alone) == 16


def test_batches_have_the_audio_of_their_corpora_and_distinct_ids(folders):
    dataset = mixture(folders, 0.0)
    for batch in iterator(dataset, 2, num_workers=1).next_epoch_itr():
        lengths = (~batch["net_input"]["padding_mask"]).sum(1)
        assert torch.equal(batch["net_input"]["ids"], batch["id"]) and batch["user_error"] is None
        for id_, wave, length in zip(batch["id"].tolist(), batch["net_input"]["waveform"], lengths):
            corpus, row = divmod(id_ % IDS_PER_COPY, IDS_PER_PART)
            expected = dataset.corpora[corpus][row]["waveform"]
            assert torch.equal(wave[:length].float(), expected) and dataset.num_tokens(id_) == len(expected)


def test_the_file_of_an_id(folders):
    dataset = mixture(folders, alpha=0.0)
    dataset.set_epoch(1)
    indices = dataset.ordered_indices()
    names = {dataset.audio_path(index).replace("big", "small").rsplit("small", 1)[1] for index in indices if index > IDS_PER_COPY}
    assert names == {"/train/0000.flac", "/train/0001.flac"}
    assert all(dataset.audio_path(index).endswith(f"{dataset[index]['row']:04d}.flac") for index in indices[:3])


def test_copies_of_an_utterance_are_cut_in_other_places(folders):
    dataset = mixture(folders, 0.0, max_samples=3000)
    cuts = [dataset[IDS_PER_PART + copy * IDS_PER_COPY]["waveform"] for copy in (0, 1, 0)]
    assert torch.equal(cuts[0], cuts[2]) and not torch.equal(cuts[0], cuts[1])


def test_each_corpus_has_its_own_budget_of_bad_audio(tmp_path, caplog):
    folders = {name: write_manifest(tmp_path / name, seconds=[0.3] * 10) for name in ("a", "b")}
    for name, rows in [("a", (1, 2)), ("b", (3,))]:
        for row in rows:
            truncate(folders[name] / "train" / f"{row:04d}.flac")
    dataset = mixture(folders, 0.0, bad_audio_budget=0.1)

    def collate(*places):
        return dataset.collater([dataset[corpus * IDS_PER_PART + row] for corpus, row in places])

    batch = collate((0, 1), (1, 3), (1, 4))
    raise_user_error(batch)
    assert batch["bad_audio"] == 2 and batch["id"].tolist() == [IDS_PER_PART + 4]
    with pytest.raises(UserError, match="a/train.tsv: 2 of 10 audio files .*0002.flac"):
        raise_user_error(collate((1, 5), (0, 2)))
    assert dataset.collater([]) == {}


def test_what_makes_no_sense_is_refused(folders):
    with pytest.raises(UserError, match="`task.sampling_alpha` must be >= 0, but is -1"):
        mixture(folders, -1)
    with pytest.raises(UserError, match="the mixture: 16 of 16 utterances are longer than max_tokens=100"):
        dataset = mixture(folders, 0.0)
        dataset.batch_by_size(dataset.ordered_indices(), max_tokens=100)
