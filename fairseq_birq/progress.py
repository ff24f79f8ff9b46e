"""Long work says where it is: as a bar in a terminal, elsewhere as lines, so that a log file shows it while it grows."""

import sys
import time
from typing import Iterable, Optional

from tqdm import tqdm

LINE_SECONDS = 20.0  # between two lines


def progress(items: Optional[Iterable] = None, total: Optional[int] = None, title: str = "", unit: str = ""):
    """A counter on stderr, with what tqdm's have: iteration over `items`, `update`, `set_postfix`, `n`, `total`, `with`.

    total: how many there will be; of `items` by default, where they have a length
    """
    if total is None and hasattr(items, "__len__"):
        total = len(items)
    if sys.stderr.isatty():
        return tqdm(items, total=total, desc=title, unit=f" {unit}" if unit else "it")
    return Lines(items, total, title, unit)


class Lines:
    """A line at most every `LINE_SECONDS`, and one at the end. The first comes with the first step that takes so long."""

    def __init__(self, items=None, total=None, title="", unit="", clock=time.monotonic):
        self.items, self.total, self.title, self.unit, self.clock = items, total, title, unit, clock
        self.n, self.closed, self.postfix = 0, False, ""
        self.begun = self.said = clock()

    def __iter__(self):
        with self:
            for item in self.items:
                yield item
                self.update()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.close()

    def update(self, count: int = 1) -> None:
        self.n += count
        if self.clock() - self.said >= LINE_SECONDS:
            self._say(self._left())

    def set_postfix(self, values: dict) -> None:
        self.postfix = "".join(f", {key} {value}" for key, value in values.items())

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._say("done")

    def _left(self) -> str:
        if not self.total or not self.n:
            return "going on"
        seconds = (self.clock() - self.begun) * (self.total - self.n) / self.n
        return f"about {_duration(max(seconds, 0.0))} left"

    def _say(self, rest) -> None:
        self.said = self.clock()
        of = f" of {self.total}" if self.total else ""
        unit = f" {self.unit}" if self.unit else ""
        title = f"{self.title}: " if self.title else ""
        passed = _duration(self.said - self.begun)
        print(f"{title}{self.n}{of}{unit} in {passed}{self.postfix}, {rest}", file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
