"""Bad audio under load, through the real command line: training goes on, every bad file is named, every count is right."""

import os
import re
import subprocess
from collections import Counter

import pytest

from tests.fixtures.commands import free_port
from tests.fixtures.manifests import write_faulty_corpus, write_manifest
from tests.fixtures.training_commands import command, logged

SECONDS_FOR_ALL = 540  # a process that hangs fails the test


def run(repository, corpus, folder, budget, processes=1, workers=0, epochs=2, max_tokens=160000):
    """Train for some epochs; (exit status, output) of every process. They are started alone: no launcher stops them."""
    settings = [f"task.bad_audio_budget={budget}", f"dataset.num_workers={workers}", f"optimization.max_epoch={epochs}"]
    settings += ["optimization.max_update=0", f"dataset.max_tokens={max_tokens}", f"hydra.run.dir={folder}/hydra"]
    if processes > 1:
        two = ["backend=gloo", f"world_size={processes}", "no_spawn=true", f"init_method=tcp://127.0.0.1:{free_port()}"]
        settings += ["distributed_training.ddp_backend=legacy_ddp"] + [f"distributed_training.distributed_{x}" for x in two]
    started = []
    for rank in range(processes):
        mine = [f"distributed_training.distributed_rank={rank}"] if processes > 1 else []
        with open(folder / f"{rank}.txt", "w") as log:
            arguments = command(repository, "best_rq", corpus, folder / "run", *settings, *mine)
            environment = dict(os.environ, OMP_NUM_THREADS="1")
            started.append(subprocess.Popen(arguments, stdout=log, stderr=subprocess.STDOUT, cwd=folder, env=environment))
    try:
        statuses = [process.wait(SECONDS_FOR_ALL) for process in started]
    finally:
        for process in started:
            process.kill()
    return [(status, (folder / f"{rank}.txt").read_text()) for rank, status in enumerate(statuses)]


def named(output, corpus):
    """How often the log names each file as bad."""
    return Counter(re.findall(rf"bad audio: {re.escape(str(corpus))}/(\S+?\.wav): ", output))


def check_that_training_went_on(results, corpus, planted, epochs=2):
    for status, output in results:
        assert status == 0, output[-3000:]
        assert set(named(output, corpus).values()) == {1}, "a process names a file once, in however many epochs it meets it"
    assert set().union(*(named(output, corpus) for _, output in results)) == set(planted)
    counts = [int(entry["train_bad_audio"]) for entry in logged(results[0][1], "train")]
    assert counts == [len(planted)] * epochs
    per_update = [int(entry["bad_audio"]) for entry in logged(results[0][1])]
    assert sum(per_update) == epochs * len(planted)
    return len(per_update)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    corpus = tmp_path_factory.mktemp("faulty")
    write_manifest(corpus, "valid", seconds=[1.0, 1.5])
    return corpus, write_faulty_corpus(corpus, files=300, bad=12)


def test_two_processes_go_on_and_name_every_bad_file(repository, faulty, tmp_path):
    corpus, planted = faulty
    results = run(repository, corpus, tmp_path, budget=0.04, processes=2, workers=2)
    assert check_that_training_went_on(results, corpus, planted) == 2 * 10


def test_over_the_budget_both_processes_stop_by_themselves(repository, faulty, tmp_path):
    """The one that met too much does not leave the other one waiting."""
    corpus, planted = faulty
    results = run(repository, corpus, tmp_path, budget=0.01, processes=2)
    assert [status for status, _ in results] == [2, 2]
    assert not any("Traceback" in output for _, output in results)
    assert all("stopped, with all other processes" in output for _, output in results)
    assert any("train.tsv: 4 of 300 audio files cannot be used, and bad_audio_budget allows 3" in output for _, output in results)
    assert not (tmp_path / "run" / "crash.pt").exists()


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    corpus = tmp_path_factory.mktemp("large")
    write_manifest(corpus, "valid", seconds=[1.0, 1.5])
    return corpus, write_faulty_corpus(corpus, files=5000, bad=50)


@pytest.mark.slow
@pytest.mark.parametrize("processes, workers", [(1, 0), (1, 2), (2, 0), (2, 2)])
def test_one_per_cent_of_5000_files(repository, large, tmp_path, processes, workers):
    corpus, planted = large
    results = run(repository, corpus, tmp_path, 0.01, processes, workers, max_tokens=640000)
    updates = check_that_training_went_on(results, corpus, planted)
    names = [sum(named(output, corpus).values()) for _, output in results]
    print(f"{processes} processes, {workers} workers: {updates} updates, files named by each process: {names}")


@pytest.mark.slow
@pytest.mark.parametrize("processes, workers", [(1, 2), (2, 0), (2, 2)])
def test_half_a_per_cent_allowed_of_5000_files(repository, large, tmp_path, processes, workers):
    corpus, _ = large
    results = run(repository, corpus, tmp_path, 0.002, processes, workers, max_tokens=640000)
    assert [status for status, _ in results] == [2] * processes
    assert not any("Traceback" in output for _, output in results)
