import logging

import numpy as np
import pytest
import torch
from fairseq.data.iterators import EpochBatchIterator

from fairseq_birq.data.dataset import raise_user_error
from fairseq_birq.data.manifest import read_manifest, write_manifest
from fairseq_birq.doors.datasets import FairseqAudioDataset as AudioDataset
from fairseq_birq.errors import UserError
from tests.fixtures.audio import tone, truncate, write_audio, write_nan_audio
from tests.fixtures.manifests import write_manifest as write_corpus

LOGGER = "fairseq_birq.data.dataset"


def corpus(folder, seconds=(1.0, 1.5, 2.0), sample_rate=16000, **options):
    write_corpus(folder, seconds=seconds, sample_rate=sample_rate)
    return AudioDataset(read_manifest(folder / "train.tsv"), **options)


def batch_of(dataset, *rows):
    return dataset.collater([dataset[row] for row in rows])


def test_a_batch_is_padded_with_zeros_and_masked(tmp_path):
    dataset = corpus(tmp_path)
    batch = batch_of(dataset, 2, 0)
    waveform, mask = batch["net_input"]["waveform"], batch["net_input"]["padding_mask"]
    assert batch["id"].tolist() == batch["net_input"]["ids"].tolist() == [2, 0]
    assert waveform.shape == mask.shape == (2, 32000) and mask.sum(1).tolist() == [0, 16000]
    assert mask.dtype == torch.bool and (waveform[mask] == 0).all()
    np.testing.assert_allclose(waveform[1, :16000], tone(1.0, seed=0), atol=1 / 32768)
    assert batch["bad_audio"] == 0 and "target" not in batch


def test_letters_are_padded_beside_whole_utterances(tmp_path):
    letters = [torch.tensor([5, 6, 7]), torch.tensor([8]), torch.tensor([9, 9])]
    dataset = corpus(tmp_path, letters=letters, pad_index=1, max_samples=8000)
    batch = batch_of(dataset, 0, 1)
    assert batch["net_input"]["waveform"].shape == (2, 24000)
    assert batch["target"].tolist() == [[5, 6, 7], [8, 1, 1]]
    assert batch["target_lengths"].tolist() == [3, 1] and batch["ntokens"] == 4
    with pytest.raises(UserError, match="3 rows.*2 transcripts"):
        AudioDataset(dataset.manifest, letters=letters[:2])


def test_a_crop_depends_on_seed_epoch_and_row_alone(tmp_path):
    dataset, twin = (corpus(tmp_path, seconds=(2.0, 2.0, 0.5), max_samples=12000, seed=3) for _ in range(2))
    assert dataset.sizes.tolist() == [12000, 12000, 8000]
    dataset.set_epoch(7)
    twin[1]
    twin.set_epoch(7)
    first = dataset[0]["waveform"]
    assert first.shape == (12000,) and torch.equal(first, twin[0]["waveform"])
    places = set()
    for epoch in range(1, 30):
        dataset.set_epoch(epoch)
        places |= {dataset._crop(row, row)[0] for row in (0, 1)}
    assert len(places) > 50 and 0 <= min(places) and max(places) <= 20000
    assert dataset[2]["waveform"].shape == (8000,)
    other = AudioDataset(dataset.manifest, max_samples=12000, seed=4)
    other.set_epoch(7)
    assert not torch.equal(first, other[0]["waveform"])


def test_another_rate_scales_sizes_and_says_so_once(tmp_path, caplog):
    with caplog.at_level(logging.INFO, LOGGER):
        dataset = corpus(tmp_path, sample_rate=8000, max_samples=30000)
        items = [dataset[row]["waveform"] for row in range(3)]
    assert dataset.sizes.tolist() == [16000, 24000, 30000]
    assert all(abs(len(item) - size) <= 1 for item, size in zip(items, dataset.sizes))
    assert [record for record in caplog.messages if "8000 Hz" in record] == caplog.messages


def test_bad_audio_is_dropped_counted_and_named_once(tmp_path, caplog):
    dataset = corpus(tmp_path, seconds=[0.5] * 10, bad_audio_budget=0.3)
    truncate(dataset.manifest.audio_path(1))
    write_audio(dataset.manifest.audio_path(2), tone(0.6))
    with caplog.at_level(logging.WARNING, LOGGER):
        batches = [batch_of(dataset, 0, 1, 2, 3) for _ in range(2)]
    assert [batch["id"].tolist() for batch in batches] == [[0, 3]] * 2
    assert [batch["bad_audio"] for batch in batches] == [2, 2]
    assert len(caplog.messages) == 2 and "0001.flac" in caplog.messages[0]
    assert "holds 9600 samples" in caplog.messages[1] and "says 8000" in caplog.messages[1]
    raise_user_error(batches[-1])


def test_an_entirely_bad_batch_has_no_rows(tmp_path):
    dataset = corpus(tmp_path, bad_audio_budget=1.0, letters=[torch.tensor([4])] * 3)
    truncate(dataset.manifest.audio_path(1))
    batch = batch_of(dataset, 1)
    assert batch["net_input"]["waveform"].shape == batch["net_input"]["padding_mask"].shape == (0, 0)
    assert batch["id"].shape == (0,) and batch["target"].shape == (0, 0) and batch["ntokens"] == 0
    assert batch["bad_audio"] == 1


def test_more_bad_audio_than_the_budget_is_an_error(tmp_path):
    dataset = corpus(tmp_path, seconds=[0.5] * 10, bad_audio_budget=0.2)
    for row in (1, 4, 7):
        write_audio(dataset.manifest.audio_path(row), tone(0.6))
    raise_user_error(batch_of(dataset, 1, 4))
    with pytest.raises(UserError, match="train.tsv: 3 of 10 .*allows 2.*0007.flac"):
        raise_user_error(batch_of(dataset, 7))


def test_on_bad_audio_error_stops_at_the_first(tmp_path):
    write_nan_audio(tmp_path / "nan.wav")
    write_manifest(tmp_path / "x.tsv", ".", [("nan.wav", 16000)])
    dataset = AudioDataset(read_manifest(tmp_path / "x.tsv"), on_bad_audio="error", bad_audio_budget=1.0)
    with pytest.raises(UserError, match="nan.wav.*not finite.*on_bad_audio=skip"):
        raise_user_error(batch_of(dataset, 0))


def test_audio_that_is_not_there_at_all_is_an_error_at_once(tmp_path):
    write_manifest(tmp_path / "x.tsv", "/no/where", [(f"{row}.wav", 16000) for row in range(20)])
    with pytest.raises(UserError, match="none of its first 10.*0.wav: no such file; there is no folder /no/where: if the audio"):
        AudioDataset(read_manifest(tmp_path / "x.tsv"))


def test_audio_that_moves_while_it_is_read_is_named_by_its_folder(tmp_path):
    dataset = corpus(tmp_path, seconds=[0.5] * 10, bad_audio_budget=0.2)
    raise_user_error(batch_of(dataset, 0))
    dataset.manifest.root = "/no/where"
    with pytest.raises(UserError, match="allows 2.*no such file; there is no folder /no/where: if the audio has moved"):
        raise_user_error(batch_of(dataset, 1, 2, 3))


def test_too_short_utterances_are_left_out_with_one_counted_line(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, LOGGER):
        dataset = corpus(tmp_path, seconds=(0.1, 1.0, 0.2, 2.0), min_samples=8000)
    assert sorted(dataset.ordered_indices().tolist()) == [1, 3]
    assert len(caplog.messages) == 1 and "left out 2 of 4" in caplog.messages[0]
    with pytest.raises(UserError, match="all 4 utterances are shorter than 5.00 s"):
        AudioDataset(dataset.manifest, min_samples=80000)


def test_order_is_from_long_to_short_and_ties_follow_the_seed(tmp_path):
    dataset = corpus(tmp_path, seconds=[0.5] * 8 + [1.0])
    first = dataset.ordered_indices()
    np.random.seed(1)
    assert (dataset.ordered_indices() == first).all() and first[0] == 8
    dataset.order_seed = 2
    assert (dataset.ordered_indices() != first).any()


@pytest.mark.parametrize("method", ["filter_indices_by_size", "batch_by_size"])
def test_utterances_over_max_tokens_are_reported_skips(tmp_path, caplog, method):
    dataset = corpus(tmp_path)
    with caplog.at_level(logging.WARNING, LOGGER):
        kept = getattr(dataset, method)(dataset.ordered_indices(), 24000)
    rows = kept[0] if method == "filter_indices_by_size" else [row for batch in kept for row in batch]
    assert sorted(rows) == [0, 1]
    assert len(caplog.messages) == 1 and "left out 1 of 3" in caplog.messages[0] and "32000" in caplog.messages[0]
    with pytest.raises(UserError, match="3 of 3.*max_tokens=10"):
        getattr(dataset, method)(dataset.ordered_indices(), 10)


def test_no_utterance_is_lost_in_batching(tmp_path):
    dataset = corpus(tmp_path, seconds=[0.5] * 11)
    batches = dataset.batch_by_size(dataset.ordered_indices(), max_tokens=40000, required_batch_size_multiple=8)
    assert sorted(row for batch in batches for row in batch) == list(range(11))
    assert max(len(batch) for batch in batches) == 5


@pytest.mark.parametrize("num_workers", [0, 2])
def test_workers_change_nothing_and_hear_of_new_epochs(tmp_path, num_workers):
    dataset = corpus(tmp_path, seconds=[1.0] * 4, max_samples=6000, bad_audio_budget=0.5)
    truncate(dataset.manifest.audio_path(3))
    batches = [[0, 1], [2, 3]]
    iterator = EpochBatchIterator(
        dataset, dataset.collater, batches, num_workers=num_workers, buffer_size=2, reuse_dataloader=True
    )
    for epoch in (1, 2):
        seen = list(iterator.next_epoch_itr(shuffle=False))
        assert [batch["bad_audio"] for batch in seen] == [0, 1]
        dataset.set_epoch(epoch)
        assert torch.equal(seen[0]["net_input"]["waveform"][1], dataset[1]["waveform"])
    assert dataset._is_bad.tolist() == [False, False, False, True]


def test_no_batch_for_this_process_is_fairseqs_empty_dict(tmp_path):
    assert corpus(tmp_path).collater([]) == {}


def test_the_data_packs_manifests_give_their_sizes(mboshi, fsdd):
    for folder, rate in [(mboshi, 16000), (fsdd, 8000)]:
        manifest = read_manifest(folder / "dev.tsv")
        dataset = AudioDataset(manifest, sample_rate=16000)
        assert dataset.sizes.tolist() == (manifest.num_samples * 16000 // rate).tolist()
        batch = batch_of(dataset, 0, 1, 2)
        lengths = (~batch["net_input"]["padding_mask"]).sum(1)
        assert batch["bad_audio"] == 0 and (lengths - torch.tensor(dataset.sizes[:3])).abs().max() <= 1


def test_segments_of_a_long_file_are_utterances(tmp_path):
    write_audio(tmp_path / "long.flac", tone(4.0))
    rows = [("long.flac:8000:16000", 16000), ("long.flac:24000:30000", 30000), ("long.flac:60000:8000", 8000)]
    write_manifest(tmp_path / "x.tsv", ".", rows)
    whole = AudioDataset(read_manifest(tmp_path / "x.tsv"), bad_audio_budget=1.0)
    np.testing.assert_allclose(whole[1]["waveform"], tone(4.0)[24000:54000], atol=1 / 32768)
    assert whole.sizes.tolist() == [16000, 30000, 8000] and "60000 to 68000 are not in the file" in whole[2]["bad"]
    cut = AudioDataset(whole.manifest, max_samples=9000)
    place, _ = cut._crop(1, 1)
    np.testing.assert_allclose(cut[1]["waveform"], whole[1]["waveform"][place : place + 9000])
