import inspect
import logging
from types import SimpleNamespace

import pytest

from fairseq_birq.config import PretrainingTaskConfig
from fairseq_birq.pretraining_task import PretrainingTask
from tests.synth import truncate, write_manifest


def task_of(folder, **settings):
    return PretrainingTask.setup_task(PretrainingTaskConfig(data=str(folder), **settings))


def stops(caplog, message, function, *args, **kwargs):
    """The call exits with status 2 after one log line that says why."""
    caplog.clear()
    with caplog.at_level(logging.ERROR), pytest.raises(SystemExit) as exit_:
        function(*args, **kwargs)
    assert exit_.value.code == 2 and len(caplog.messages) == 1 and message in caplog.messages[0]


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
