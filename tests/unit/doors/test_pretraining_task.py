import inspect
from types import SimpleNamespace

import pytest
import yaml
from omegaconf import OmegaConf

from fairseq_birq.config import PretrainingTaskConfig
from fairseq_birq.doors.audio_task import AudioTask
from fairseq_birq.doors.pretraining_task import PretrainingTask, _say_what_update_freq_changes
from fairseq_birq.model import BirqModel
from tests.fixtures.audio import truncate
from tests.fixtures.earlier_versions import cases
from tests.fixtures.errors import stops
from tests.fixtures.manifests import write_manifest
from tests.fixtures.models import birq


def task_of(folder, **settings):
    return PretrainingTask.setup_task(PretrainingTaskConfig(data=str(folder), **settings))


def test_seconds_become_samples_and_batches_hold_max_tokens(tmp_path):
    write_manifest(tmp_path, seconds=(0.3, 1.0, 2.0, 2.5, 1.0))
    task = task_of(tmp_path, max_seconds=1.5, min_seconds=0.5)
    task.load_dataset("train")
    dataset = task.dataset("train")
    assert dataset.sizes.tolist() == [4800, 16000, 24000, 24000, 16000]
    iterator = task.get_batch_iterator(dataset, max_tokens=48000, required_batch_size_multiple=8)
    batches = list(iterator.next_epoch_itr(shuffle=False))
    assert sorted(row for batch in batches for row in batch["id"].tolist()) == [1, 2, 3, 4]
    assert all(batch["net_input"]["waveform"].numel() <= 48000 for batch in batches)


@pytest.mark.parametrize("limits", [(48000, None), (None, 2), (60000, 3), (None, None)])
def test_batches_without_fairseq_are_those_of_fairseq(tmp_path, limits):
    """What the doors to fairseq2 train on."""
    task = task_of(write_manifest(tmp_path, seconds=(0.6, 1.0, 2.0, 2.5, 1.0, 0.7, 1.0)), max_seconds=2.5)
    task.load_dataset("train")
    dataset = task.dataset("train")
    theirs = dataset.batch_by_size(dataset.ordered_indices(), *limits)
    assert [batch.tolist() for batch in dataset.batches(*limits)] == [list(map(int, batch)) for batch in theirs]


def test_a_missing_manifest_names_the_command_that_makes_one(tmp_path, caplog):
    stops(caplog, f"birq-manifest FOLDER {tmp_path}", task_of(tmp_path).load_dataset, "train")


def test_a_missing_folder_is_named_before_fairseq_lists_it(tmp_path, caplog):
    stops(caplog, f"task.data={tmp_path}/absent: no such folder", task_of(tmp_path / "absent").build_model, None)


def test_a_checkpoint_loads_where_its_data_is_not(tmp_path, caplog):
    task = task_of(tmp_path / "absent")
    assert "from_checkpoint" in inspect.getfullargspec(task.build_model).args  # what fairseq looks for
    stops(caplog, "the checkpoint is of model None", task.build_model, None, from_checkpoint=True)


def test_an_empty_manifest_is_named(tmp_path, caplog):
    (tmp_path / "train.tsv").write_text("/root\n")
    stops(caplog, "train.tsv: has no rows", task_of(tmp_path).load_dataset, "train")


def test_nothing_within_max_tokens_stops_the_run(tmp_path, caplog):
    task = task_of(write_manifest(tmp_path))
    task.load_dataset("train")
    stops(caplog, "dataset.max_tokens", task.get_batch_iterator, task.dataset("train"), max_tokens=1000)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_bad_audio_stops_the_run_in_the_main_process(tmp_path, caplog, num_workers):
    task = task_of(write_manifest(tmp_path), on_bad_audio="error")
    task.load_dataset("train")
    truncate(task.dataset("train").manifest.audio_path(1))
    iterator = task.get_batch_iterator(task.dataset("train"), max_tokens=10**6, num_workers=num_workers)
    (batch,) = iterator.next_epoch_itr(shuffle=False)
    stops(caplog, "0001.flac: truncated", task.train_step, batch, None, None, None, 0)
    stops(caplog, "0001.flac: truncated", task.valid_step, batch, None, None)
    stops(caplog, "0001.flac: truncated", task.inference_step, None, None, batch)


def test_the_task_offers_no_dictionaries_and_no_limit_on_positions(tmp_path):
    task = PretrainingTask.setup_task(PretrainingTaskConfig(data=str(tmp_path)))
    assert task.source_dictionary is None and task.target_dictionary is None and task.max_positions() is None


def test_a_good_batch_reaches_the_criterion(tmp_path):
    task = task_of(write_manifest(tmp_path), on_bad_audio="skip")
    task.load_dataset("train")
    batch = task.dataset("train").collater([task.dataset("train")[0]])
    model = SimpleNamespace(eval=lambda: None)
    assert task.valid_step(batch, model, lambda model, sample: (sample["bad_audio"], 1, {})) == (0, 1, {})


def ids_of(task, world=1, rank=0, epoch=1):
    iterator = task.get_batch_iterator(
        task.dataset("train"), max_tokens=40000, num_shards=world, shard_id=rank, epoch=epoch, disable_iterator_cache=True
    )
    return [id_ for batch in iterator.next_epoch_itr() if batch for id_ in batch["id"].tolist()]


def test_shards_take_turns_and_ids_stay_distinct(tmp_path):
    seconds = [(0.6, 0.7, 0.8), (0.9, 1.0)]
    folders = [write_manifest(tmp_path / f"part{part}", seconds=lengths) for part, lengths in enumerate(seconds)]
    write_manifest(folders[0], "valid", seconds=(0.5,))
    task = task_of(f"{folders[0]}:{folders[1]}")
    assert task.has_sharded_data("train")
    seen = []
    for epoch in range(1, 5):
        task.load_dataset("train", epoch=epoch)
        assert task.dataset("train").sizes.tolist() == [int(second * 16000) for second in seconds[(epoch - 1) % 2]]
        ranks = [ids_of(task, world=2, rank=rank, epoch=epoch) for rank in range(2)]
        assert not set(ranks[0]) & set(ranks[1])
        seen.append(sorted(sum(ranks, [])))
    assert seen == [[0, 1, 2], [2**40, 2**40 + 1]] * 2
    task.load_dataset("valid", epoch=1)
    assert len(task.dataset("valid")) == 1


def test_one_line_a_corpus_makes_a_mixture_in_training_alone(tmp_path):
    for name, count in [("a", 6), ("b", 2)]:
        write_manifest(tmp_path / name, seconds=[0.5] * count)
        write_manifest(tmp_path / name, "valid", seconds=[0.5])
    absolute = {"second": str(tmp_path / "b"), "first": "a"}
    task = task_of(tmp_path, corpora=absolute, sampling_alpha=0.0)
    task.load_dataset("train", epoch=1, combine=True, data_selector=None, tpu=False)  # as fairseq's trainer does
    task.load_dataset("valid", combine=False, epoch=1)
    assert task.dataset("train").utterances_per_epoch == [4, 4] and task.dataset("train").names == ["first", "second"]
    assert len(ids_of(task)) == len(set(ids_of(task))) == 8
    assert sorted(task.dataset("valid").ordered_indices().tolist()) == [0, 2**40]
    assert not task.has_sharded_data("train")


def test_folders_that_are_not_there_or_asked_for_twice_are_named(tmp_path, caplog):
    write_manifest(tmp_path / "a")
    stops(caplog, f"task.data={tmp_path}/b: no such folder", task_of(f"{tmp_path}/a:{tmp_path}/b").build_model, None)
    both = task_of(f"{tmp_path}/a:{tmp_path}/a", corpora={"x": "a"})
    stops(caplog, "use one of the two", both.build_model, None)
    missing = task_of(tmp_path, corpora={"a": "a", "c": "c"})
    stops(caplog, f"{tmp_path}/c/train.tsv: no such manifest", missing.load_dataset, "train")


def test_the_sample_rates_of_task_and_model_must_be_one(tmp_path, caplog):
    write_manifest(tmp_path)
    cfg = OmegaConf.create({"_name": "birq", **cases.TINY})
    stops(
        caplog,
        "`task.sample_rate` is 8000, but the model's frontend wants 16000",
        task_of(tmp_path, sample_rate=8000).build_model,
        cfg,
    )
    task = task_of(tmp_path, sample_rate=8000)
    task.build_model(cfg, from_checkpoint=True)
    task.load_dataset("train")
    assert task.dataset("train").sample_rate == 16000  # the checkpoint's


@pytest.mark.parametrize(
    "method, parts",
    [
        ("best_rq", []),
        ("birq", ["statistics of hidden states (`own_layer`)"]),
        ("latent_rq", ["statistics of hidden states (`snapshot`)"]),
    ],
)
def test_update_freq_says_what_is_of_each_batch(repository, caplog, method, parts):
    """Statistics of hidden states are those of one batch; two batches in one update are not the joined one."""
    recipe = yaml.safe_load((repository / "examples" / method / "debug.yaml").read_text())
    _say_what_update_freq_changes(BirqModel.build_model(recipe["model"]).targets)
    assert [part for part in parts if part not in caplog.text] == [] and bool(caplog.messages) == bool(parts)


@pytest.mark.parametrize("update_freq, said", [([1], False), ([1, 2], True)])
def test_training_says_it_where_an_update_has_several_batches(tmp_path, caplog, monkeypatch, update_freq, said):
    monkeypatch.setattr(AudioTask, "check_trainer", lambda self, trainer: None)
    model, cfg = birq(), OmegaConf.create({"optimization": {"update_freq": update_freq}})
    task_of(tmp_path).check_trainer(SimpleNamespace(cfg=cfg, get_model=lambda: model, lr_scheduler=SimpleNamespace()))
    assert ("`optimization.update_freq` makes one update of several batches" in caplog.text) == said
