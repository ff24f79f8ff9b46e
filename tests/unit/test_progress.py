import re
from pathlib import Path

import pytest

import fairseq_birq
from fairseq_birq import progress as module
from fairseq_birq.progress import Lines, progress


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def said(capsys):
    return capsys.readouterr().err.splitlines()


def test_lines_come_while_the_work_goes_on_and_no_more_often_than_their_interval(capsys, clock):
    for item in Lines(range(10), 10, "train", "updates", clock):
        assert (item < 5) == (capsys.readouterr().err == "") or item != 5
        clock.now += module.LINE_SECONDS / 5
    lines = said(capsys)
    assert lines == ["train: 10 of 10 updates in 40 s, about 0 s left", "train: 10 of 10 updates in 40 s, done"]


def test_a_line_says_how_long_it_may_take(capsys, clock):
    bar = Lines(None, 100, "scan", "files", clock)
    clock.now = 60.0
    bar.set_postfix({"WER": "12.5"})
    bar.update(20)
    assert said(capsys) == ["scan: 20 of 100 files in 1 min, WER 12.5, about 4 min left"]


def test_work_of_unknown_length(capsys, clock):
    with Lines(None, None, "read", "pieces", clock) as bar:
        clock.now = 3 * 3600.0
        bar.update(7)
    assert said(capsys) == ["read: 7 pieces in 3.0 h, going on", "read: 7 pieces in 3.0 h, done"]


def test_work_that_fails_is_not_called_done(capsys, clock):
    with pytest.raises(ValueError), Lines(None, 3, "scan", "files", clock) as bar:
        bar.update()
        raise ValueError
    assert said(capsys) == []


def test_a_bar_in_a_terminal_and_lines_elsewhere(monkeypatch):
    assert isinstance(progress([1, 2]), Lines) and progress([1, 2]).total == 2
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: True, raising=False)
    bar = progress([1, 2], title="scan", unit="files")
    assert isinstance(bar, module.tqdm) and bar.total == 2
    bar.close()


def test_every_bar_of_the_package_is_made_here():
    folder = Path(fairseq_birq.__file__).parent
    users = [path for path in folder.rglob("*.py") if re.search(r"^\s*(from|import) tqdm", path.read_text(), re.M)]
    assert [path.name for path in users] == ["progress.py"]
