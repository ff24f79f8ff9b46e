"""Going on: exactly where the run stopped, from the newest whole checkpoint, or not at all."""

import functools
import json
import re
import shutil
import signal

import pytest
import torch

from fairseq_birq.errors import UserError
from fairseq_birq.patches.preemption import EXIT_STATUS
from fairseq_birq.patches.run_folder import settle
from tests.fixtures import runs
from tests.fixtures.audio import truncate
from tests.fixtures.commands import free_port
from tests.fixtures.runs import STAGES, UPDATES, assert_same, settings, state, train, write_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def whole(repository, corpus, tmp_path_factory):
    """The end of the uninterrupted run of a method."""
    folder, ends = tmp_path_factory.mktemp("whole"), {}

    def whole(method):
        if method not in ends:
            train(settings(repository, method, corpus, folder / method), folder / f"{method}.log")
            ends[method] = state(folder / method)
        return ends[method]

    return whole


@pytest.fixture
def run(repository, corpus, tmp_path):
    """Train one method in one folder, up to an update; what the run wrote, all starts together."""

    def run(method="best_rq", max_update=UPDATES, *changes, before=None, status=0):
        cfg = settings(repository, method, corpus, tmp_path / "run", {"optimization": {"max_update": max_update}}, *changes)
        return train(cfg, tmp_path / "log.txt", before, status)

    return run


@pytest.mark.parametrize("method", ["birq", *(pytest.param(other, marks=pytest.mark.slow) for other in ("best_rq", "latent_rq"))])
def test_parts_with_other_numbers_of_workers_equal_the_whole_run_bit_for_bit(run, whole, tmp_path, method):
    """Stops within two epochs, at a target update and after one; utterances are cut, masks and Gumbel noise drawn."""
    run(method, STAGES[0])
    run(method, STAGES[1] + 1)
    output = run(method, UPDATES, {"dataset": {"num_workers": 2}})
    assert f"going on after {STAGES[1] + 1} updates" in output
    assert_same(state(tmp_path / "run"), whole(method))


def test_a_full_disk_and_a_checkpoint_cut_short_cost_nothing_but_updates(run, whole, tmp_path):
    run("best_rq", 4)
    before = state(tmp_path / "run")
    output = run(before=runs.limit_file_size, status=2)
    assert "could not write checkpoint" in output and "Traceback" not in output
    assert_same(state(tmp_path / "run"), before)
    truncate(tmp_path / "run" / "checkpoint_last.pt")  # one file with checkpoint_1_4.pt
    output = run()
    assert "cannot be read" in output and "checkpoint_1_2.pt, the newest whole checkpoint" in output
    assert {path.name for path in (tmp_path / "run").glob("*.damaged")} >= {
        f"checkpoint_{name}.pt.damaged" for name in ("last", "1_4")
    }
    assert_same(state(tmp_path / "run"), whole("best_rq"))


def test_signals_to_the_whole_job_end_it_with_a_checkpoint_and_its_own_status(run, whole, tmp_path):
    workers = {"dataset": {"num_workers": 1}}
    before = functools.partial(runs.signal_at, 2, signal.SIGTERM)
    output = run("best_rq", UPDATES, workers, before=before, status=EXIT_STATUS)
    assert "asked to leave: saving a checkpoint after update 3" in output
    assert state(tmp_path / "run")["updates"] == 3
    run(before=functools.partial(runs.signal_at, 8, signal.SIGUSR1), status=EXIT_STATUS)
    assert state(tmp_path / "run")["updates"] == 9
    run()
    assert_same(state(tmp_path / "run"), whole("best_rq"))
    output = run()  # as a queue that starts it once more
    assert "has had its 12 updates" in output
    assert_same(state(tmp_path / "run"), whole("best_rq"))


def test_bad_updates_are_skipped_counted_and_written_down_until_there_are_too_many(run, tmp_path):
    run("birq", 2)
    before = state(tmp_path / "run")
    output = run("birq", 3, before=functools.partial(runs.poison, (2,)))
    assert "update 3: the loss or the gradient is not finite, skipped (1 of 100 allowed)" in output
    after = state(tmp_path / "run")
    assert after["updates"] == 3
    for part in ("model", "last_optimizer_state"):
        after[part].pop("param_groups", None), before[part].pop("param_groups", None)  # the learning rate went on
        assert_same(after[part], before[part])
    (entry,) = [json.loads(line) for line in (tmp_path / "run" / "bad_updates.jsonl").read_text().splitlines()]
    (batch,) = entry["batches"]
    assert entry["update"] == 3 and batch["loss"] == "nan"
    assert [name.endswith(f"{row:04d}.flac") for row, name in zip(batch["ids"], batch["files"])] == [True] * len(batch["ids"])
    allowed = {"task": {"max_bad_updates": 1}}
    output = run("birq", UPDATES, allowed, before=functools.partial(runs.poison, range(3, 12)), status=2)
    assert "2 updates had a loss or gradient that is not finite" in output and "Traceback" not in output


PRECISIONS = {
    "fp32": {"fp16": False},
    "bf16": {"bf16": True},
    "memory_efficient_bf16": {"bf16": True, "memory_efficient_bf16": True},
    "fp16": {"fp16": True, "fp16_init_scale": 4, "fp16_no_flatten_grads": True},
}


OTHERS = [("latent_rq", "memory_efficient_bf16"), ("latent_rq", "fp16"), ("best_rq", "bf16")]


@pytest.mark.parametrize(
    "method, precision",
    [
        *[("latent_rq", "fp32"), ("latent_rq", "bf16"), ("birq", "bf16")],
        *(pytest.param(*other, marks=pytest.mark.slow) for other in OTHERS),
    ],
)
def test_a_bad_update_costs_itself_and_nothing_else_in_every_precision(run, tmp_path, method, precision):
    """Two in a row, one right at a stage change, one at the end; every update is a log interval of its own."""
    bad = (1, 2, STAGES[0], UPDATES - 2)
    common = {"log_interval": 1, **PRECISIONS[precision]}
    output = run(method, UPDATES, {"common": common}, before=functools.partial(runs.poison, bad))
    assert output.count("is not finite, skipped") == (0 if precision == "fp16" else len(bad))
    assert output.count("gradient overflow detected") == (len(bad) if precision == "fp16" else 0)
    end = state(tmp_path / "run")
    assert end["updates"] == UPDATES
    assert all(torch.isfinite(value).all() for value in end["model"].values() if torch.is_tensor(value))
    moments = [moment for moments in end["last_optimizer_state"]["state"].values() for moment in moments.values()]
    assert moments and all(torch.isfinite(torch.as_tensor(moment)).all() for moment in moments)
    if precision != "fp16":
        steps = {int(moments["step"]) for moments in end["last_optimizer_state"]["state"].values()}
        assert steps == {3 if method == "latent_rq" else UPDATES - len(bad)}  # of four updates since the last stage, one was bad


VALIDATED_BEFORE_TRAINED = {
    "birq": {"criterion": {"start_updates": {"own_layer": 6}}},
    "latent_rq": {},
    "moving_average": {"model": {"targets": {"use": ["raw_input", "moving_average"], "moving_average": {"layers": [1, 2]}}}},
}


@pytest.mark.parametrize("method", VALIDATED_BEFORE_TRAINED)
def test_a_run_computes_the_same_however_often_it_validates(run, repository, corpus, tmp_path, method):
    """Also where codes are made in validation before training makes any: a start, a target update."""
    recipe, change = method.replace("moving_average", "best_rq"), VALIDATED_BEFORE_TRAINED[method]
    run(recipe, 8, change, {"checkpoint": {"save_interval_updates": 4}})
    often = {"dataset": {"validate_interval_updates": 1, "validate_after_updates": 0}, "checkpoint": {"save_interval_updates": 4}}
    cfg = settings(repository, recipe, corpus, tmp_path / "often", {"optimization": {"max_update": 8}}, change, often)
    output = train(cfg, tmp_path / "often.txt")
    assert output.count("valid_loss") >= 8
    assert_same(state(tmp_path / "often"), state(tmp_path / "run"))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"task": {"resume": "must"}}, "`task.resume` is must, but"),
        ({"checkpoint": {"restore_file": "/nowhere.pt"}}, "/nowhere.pt, which does not exist"),
        ({"checkpoint": {"save_dir": "relative"}}, "a relative path"),
        ({"common": {"amp": True}}, "`common.amp` is set, but fairseq divides its gradients by the loss scale twice"),
    ],
)
def test_nothing_starts_over_in_silence(repository, corpus, tmp_path, change, message):
    cfg = settings(repository, "best_rq", corpus, tmp_path / "run", change)
    output = train(cfg, tmp_path / "log.txt", functools.partial(runs.os.chdir, tmp_path), status=2)
    assert message in output and "Traceback" not in output
    assert not list(tmp_path.glob("*/*.pt"))


def test_a_folder_belongs_to_a_run_with_its_settings(run):
    """As two jobs of a sweep in one folder: the second one would go on from the first, and train nothing."""
    run("best_rq", 2)
    other = {"optimization": {"lr": [0.01]}}
    output = run("best_rq", 2, other, status=2)
    assert "run holds a run with other settings: optimization.lr [0.001] -> [0.01]" in output and "Traceback" not in output
    output = run("best_rq", 4, {"lr_scheduler": {"total_num_update": 50}})
    assert "going on after 2 updates" in output
    assert re.search(
        r"that differ from those before: optimization.max_update 2 -> 4; lr_scheduler.total_num_update \S+ -> 50", output
    )
    output = run("best_rq", 6, other, {"task": {"resume": "changed"}})
    assert "going on after 4 updates" in output and "optimization.lr [0.001] -> [0.01]" in output


def test_the_command_that_began_with_a_file_elsewhere_goes_on_from_the_runs_own_checkpoint(run, repository, corpus, tmp_path):
    """fairseq would begin with `restore_file` again at every start, and all that the run has learned would be lost."""
    first = settings(repository, "best_rq", corpus, tmp_path / "first", {"optimization": {"max_update": 2}})
    train(first, tmp_path / "first.txt")
    resets = {f"reset_{part}": True for part in ("optimizer", "dataloader", "lr_scheduler", "meters")}
    changes = {"checkpoint": {"restore_file": str(tmp_path / "first" / "checkpoint_last.pt"), **resets}}
    assert "the run begins with " in run("best_rq", 2, changes)
    for updates in (3, 4):  # the second of them is the same command after one that went on
        output = run("best_rq", updates, changes)
        assert f"going on after {updates - 1} updates, not again from" in output
        assert state(tmp_path / "run")["updates"] == updates
    shutil.rmtree(tmp_path / "first")
    assert "going on after 4 updates" in run("best_rq", 5, changes)  # the file is needed no more
    changes["checkpoint"]["reset_optimizer"] = False
    output = run("best_rq", 6, changes, status=2)
    assert "holds a run of 5 updates that did not begin with `checkpoint.restore_file`" in output
    assert "checkpoint.reset_optimizer=True" in output
    assert state(tmp_path / "run")["updates"] == 5


def test_one_of_two_processes_is_asked_to_leave_and_one_process_goes_on(repository, corpus, tmp_path):
    """Both leave after the same update. A file that cannot be read gives a process an empty batch: nothing hangs."""
    broken = write_corpus(tmp_path / "corpus")
    for row in (0, 5, 11):
        truncate(broken / "train" / f"{row:04d}.flac")
    changes = {"dataset": {"max_tokens": None, "batch_size": 1}, "task": {"bad_audio_budget": 0.5}}
    cfg = functools.partial(settings, repository, "birq", broken, tmp_path / "run", changes, {"criterion": {"log_grad_every": 1}})
    asked = functools.partial(runs.signal_at, 4, signal.SIGTERM)
    port = free_port()
    both = [runs.start(cfg(runs.gloo(rank, 2, port)), tmp_path / f"{rank}.log", asked if rank else None) for rank in range(2)]
    for process in both:
        process.join(240)
    assert [process.exitcode for process in both] == [EXIT_STATUS] * 2, (tmp_path / "1.log").read_text()[-3000:]
    assert state(tmp_path / "run")["updates"] == 5
    output = train(cfg({"optimization": {"max_update": 6}}), tmp_path / "log.txt")
    assert "was written by 2 process(es), this run has 1" in output
    assert state(tmp_path / "run")["place"]["iterations_in_epoch"] == 11  # ten batches of two processes, and one


def write_checkpoint(path, epoch, batches, updates):
    place = {"epoch": epoch, "iterations_in_epoch": batches}
    content = {"extra_state": {"train_iterator": place}, "optimizer_history": [{"num_updates": updates}], "model": {}}
    torch.save({**content, "cfg": {"distributed_training": {"distributed_world_size": 2}}}, str(path))
    return path


def test_the_newest_whole_checkpoint_becomes_the_last_one(tmp_path):
    assert settle(tmp_path) is None
    write_checkpoint(tmp_path / "checkpoint1.pt", 2, 0, 10)
    write_checkpoint(tmp_path / "checkpoint_2_12.pt", 2, 2, 12)
    write_checkpoint(tmp_path / "checkpoint_best.pt", 2, 3, 13)
    (tmp_path / "checkpoint_2_14.pt.tmp").write_bytes(b"half")
    truncate(write_checkpoint(tmp_path / "checkpoint_2_14.pt", 2, 4, 14))
    found = settle(tmp_path)
    assert (found["updates"], found["processes"]) == (13, 2)
    names = {path.name for path in tmp_path.iterdir()}
    assert "checkpoint_2_14.pt.damaged" in names and "checkpoint_last.pt" in names
    assert not any(name.endswith(".tmp") for name in names)


def test_a_checkpoint_written_after_the_last_one_counts_and_an_older_one_brought_back_stays(tmp_path):
    write_checkpoint(tmp_path / "checkpoint_last.pt", 2, 1, 11)
    newer = write_checkpoint(tmp_path / "checkpoint2.pt", 3, 0, 20)
    runs.os.utime(newer, (0, 0))
    assert settle(tmp_path)["updates"] == 11
    runs.os.utime(tmp_path / "checkpoint_last.pt", (0, 0))
    runs.os.utime(newer)
    assert settle(tmp_path)["updates"] == 20


def test_only_damaged_or_foreign_checkpoints_stop_the_run(tmp_path):
    truncate(write_checkpoint(tmp_path / "checkpoint_last.pt", 2, 1, 11))
    for _ in range(2):  # and so does every further start
        with pytest.raises(UserError, match="none can be read: .*checkpoint_last.pt.damaged"):
            settle(tmp_path)
    torch.save({"model": {}}, str(tmp_path / "checkpoint_last.pt"))
    with pytest.raises(UserError, match="not a checkpoint of a training run"):
        settle(tmp_path)
