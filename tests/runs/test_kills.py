"""SIGKILL at random moments, also while a checkpoint is being written: nothing is lost but updates since the last one."""

import os
import random
import re
import signal
import time

import pytest

from tests.fixtures import runs
from tests.fixtures.runs import METHODS, assert_same, settings, state, write_corpus

SAVED_EVERY = 2  # updates; see `runs.settings`


class KilledRuns:
    """Trains in one folder, is killed, goes on; at the end of a run the next one begins in a new folder."""

    def __init__(self, repository, corpus, folder, method, rng):
        self.cfg = lambda name: settings(repository, method, corpus, folder / name)
        self.folder, self.rng = folder, rng
        self.kills = self.kills_in_a_save = self.complete = self.most_lost = 0
        runs.train(self.cfg("whole"), folder / "whole.log")
        self.whole = state(folder / "whole")
        self.begin()

    def begin(self):
        self.name, self.reached = f"run{self.complete}", 0

    def kill(self, in_a_save):
        """One start and its end; in a save: half of some checkpoint is written."""
        log = self.folder / f"{self.name}.{self.kills}.log"
        before = runs.slow_saving if in_a_save else None
        process = runs.start(self.cfg(self.name), log, before)
        self._wait_for_a_save(process) if in_a_save else self._wait_for_updates(process, log)
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
        process.join()
        self._note(process.exitcode, log.read_text() if log.exists() else "")

    def _wait_for_updates(self, process, log):
        """Some updates, and a moment."""
        updates = self.rng.randrange(6)
        while process.is_alive() and not (log.exists() and len(_updates_made(log.read_text())) >= updates):
            time.sleep(0.005)
        process.join(self.rng.uniform(0, 0.3))

    def _wait_for_a_save(self, process):
        saves = self.rng.randrange(4)  # let so many files be written first
        half = None
        while process.is_alive() and saves >= 0:
            now = next((path.name for path in (self.folder / self.name).glob("*.tmp")), None)
            saves -= now is not None and now != half
            half = now
            time.sleep(0.005)

    def _note(self, status, log):
        went_on = re.search(r"going on after (\d+) updates", log)
        if went_on:
            self.most_lost = max(self.most_lost, self.reached - int(went_on.group(1)))
            self.reached = int(went_on.group(1))
        self.reached = max([self.reached, *_updates_made(log)])
        assert status in (0, -signal.SIGKILL), log[-3000:]
        if status == 0:
            assert_same(state(self.folder / self.name), self.whole)
            self.complete += 1
            return self.begin()
        self.kills += 1
        self.kills_in_a_save += bool(list((self.folder / self.name).glob("*.tmp")))
        if (self.folder / self.name / "checkpoint_last.pt").exists():
            state(self.folder / self.name)  # never half a file


def _updates_made(log):
    return [int(number) for number in re.findall(r'"num_updates": "(\d+)"', log)]


def killed(repository, folder, method, kills, seed):
    """Kill until it was done `kills` times, then let the run end."""
    subject = KilledRuns(repository, write_corpus(folder / "corpus"), folder, method, random.Random(seed))
    while subject.kills < kills:
        subject.kill(in_a_save=subject.kills % 2 == 1)
    runs.train(subject.cfg(subject.name), folder / "end.log")
    assert_same(state(folder / subject.name), subject.whole)
    assert subject.most_lost <= SAVED_EVERY
    print(
        f"{method}: {subject.kills} kills, {subject.kills_in_a_save} of them with half a checkpoint on the disk; "
        f"{subject.complete + 1} runs reached their end, all equal to the uninterrupted one bit for bit; at most "
        f"{subject.most_lost} updates made again"
    )


def test_three_kills_and_the_run_ends_as_if_nothing_had_happened(repository, tmp_path):
    killed(repository, tmp_path, "latent_rq", kills=3, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_fifty_kills(repository, tmp_path, method):
    """17 of each method: with `-s` the line of the README's table."""
    killed(repository, tmp_path, method, kills=17, seed=2)
