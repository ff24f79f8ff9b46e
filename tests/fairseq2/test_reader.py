"""The data reader: which utterances a process gets, and where it goes on."""

from types import SimpleNamespace

import pytest
import torch

from fairseq_birq.data.dataset import IDS_PER_PART
from fairseq_birq.errors import UserError
from fairseq_birq.fairseq2.pretrain.config import TaskSection
from fairseq_birq.fairseq2.pretrain.recipe import opener
from fairseq_birq.fairseq2.reader import BatchReader
from fairseq_birq.training.pretraining_data import PretrainingData
from tests.fixtures.audio import truncate
from tests.fixtures.manifests import write_manifest


def gangs(rank=0, size=1):
    return SimpleNamespace(dp=SimpleNamespace(rank=rank, size=size), device=torch.device("cpu"))


def reader(data, rank=0, size=1, split="train", task=None, **changes):
    opened = PretrainingData(TaskSection(data=str(data), max_seconds=1.6, **(task or {})), 16000)
    settings = {"max_tokens": 52000, **changes}
    return BatchReader(opener(opened, split, is_training=split == "train"), gangs(rank, size), **settings)


def ids(batches):
    return [batch.content["on_host"]["ids"] for batch in batches]


def epoch(one):
    """The ids of every step of an epoch; the reader is at the beginning of the next one."""
    steps = [ids(batches) for batches in one]
    one.reset()
    return steps


def test_an_epoch_has_every_utterance_once_in_an_order_of_its_own(corpus):
    one = reader(corpus)
    first, second = epoch(one), epoch(one)
    assert sorted(sum(sum(first, []), [])) == sorted(sum(sum(second, []), [])) == list(range(12))
    assert first != second and sorted(map(str, first)) == sorted(map(str, second))


def test_processes_share_an_epoch_and_have_equally_many_batches(corpus):
    whole = sum(epoch(reader(corpus, max_tokens=130000)), [])
    parts = [sum(epoch(reader(corpus, rank, 2, max_tokens=130000)), []) for rank in range(2)]
    assert len(whole) % 2 == 1 and [part for pair in zip(*parts) for part in pair] == [*whole, []]
    assert sorted(sum(whole, [])) == list(range(12))


def test_an_empty_batch_has_the_tensors_of_others(corpus):
    batches = sum((list(batches) for batches in reader(corpus, 1, 2, max_tokens=130000)), [])
    first, last = batches[0].content, batches[-1].content
    assert last["on_host"]["ids"] == [] and first.keys() == last.keys()
    assert last["net_input"]["waveform"].shape == (0, 0) and last["net_input"]["waveform"].dtype == torch.float64


def test_several_batches_make_an_update(corpus):
    steps = epoch(reader(corpus, num_accumulate=4))
    assert [len(step) for step in steps] == [4, 2]
    assert sum(steps, []) == sum(epoch(reader(corpus)), [])


@pytest.mark.parametrize("read", [0, 2, 6, 8])
def test_a_state_goes_on_with_the_next_batch(corpus, read):
    """At the beginning of an epoch, in its middle, at its end, and in the second one."""

    def steps(one, count):
        found = []
        while len(found) < count:
            try:
                found.append(next(one))
            except StopIteration:
                one.reset()
        return found

    whole = reader(corpus)
    steps(whole, read)
    state = whole.state_dict()
    wanted = steps(whole, 4)
    again = reader(corpus)
    again.load_state_dict(state)
    for batches, others in zip(steps(again, 4), wanted):
        assert ids(batches) == ids(others)
        for batch, other in zip(batches, others):
            assert torch.equal(batch.content["net_input"]["waveform"], other.content["net_input"]["waveform"])


def test_a_state_of_other_batches_is_refused(corpus):
    with pytest.raises(UserError, match="epoch 1 has 12 batches for each process, but 6 in the checkpoint"):
        reader(corpus, max_sentences=1).load_state_dict(reader(corpus).state_dict())


def test_validation_stays_as_it_is(corpus):
    one = reader(corpus, split="valid", shuffle=False)
    assert epoch(one) == epoch(one) == [[[1, 0]]] and one.state_dict()["epoch"] == 1


def test_shards_take_turns(corpus, tmp_path):
    other = write_manifest(tmp_path, seconds=(0.9, 1.0))
    one = reader(f"{corpus}:{other}")
    seen = [sorted(sum(sum(epoch(one), []), [])) for _ in range(3)]
    assert seen == [list(range(12)), [IDS_PER_PART, IDS_PER_PART + 1], list(range(12))]


def test_corpora_are_mixed_in_their_shares(tmp_path):
    for name, count in [("a", 6), ("b", 2)]:
        write_manifest(tmp_path / name, seconds=[0.6] * count)
    one = reader(tmp_path, task={"corpora": {"a": "a", "b": "b"}, "sampling_alpha": 0.0})
    for _ in range(2):
        seen = sum(sum(epoch(one), []), [])
        assert sum(id_ // IDS_PER_PART % 1024 == 0 for id_ in seen) == 4 and len(set(seen)) == 8


def test_bad_audio_is_left_out_and_counted(tmp_path):
    write_manifest(tmp_path, seconds=[0.6] * 4)
    truncate(tmp_path / "train" / "0001.flac")
    skipping = [batch.content for batches in reader(tmp_path, task={"bad_audio_budget": 0.5}) for batch in batches]
    assert sum(content["bad_audio"] for content in skipping) == 1 and not any(content["user_error"] for content in skipping)
    stopping = [batch.content for batches in reader(tmp_path, task={"on_bad_audio": "error"}) for batch in batches]
    assert any("0001.flac: truncated" in (content["user_error"] or "") for content in stopping)
