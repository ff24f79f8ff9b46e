"""Going on: exactly where the run stopped, from the newest whole checkpoint, or not at all."""

import pytest

from tests.runs import METHODS, STAGES, UPDATES, assert_same, limit_file_size, settings, state, train, write_corpus


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


@pytest.mark.parametrize("method", METHODS)
def test_parts_with_other_numbers_of_workers_equal_the_whole_run_bit_for_bit(run, whole, tmp_path, method):
    """Stops within epochs, at a target update, and after it; utterances are cut, masks and Gumbel noise drawn."""
    run(method, STAGES[0])
    run(method, STAGES[0] + 1)
    output = run(method, UPDATES, {"dataset": {"num_workers": 2}})
    assert f"going on after {STAGES[0] + 1} updates" in output
    assert_same(state(tmp_path / "run"), whole(method))
