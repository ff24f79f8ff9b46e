"""Passes that must leave running statistics as they are: a layer's second run in checkpointing, a pass that only measures."""

import contextlib

_held = 0


def are_held() -> bool:
    return _held > 0


@contextlib.contextmanager
def held():
    """Within it, running statistics of hidden states do not move."""
    global _held
    _held += 1
    try:
        yield
    finally:
        _held -= 1
