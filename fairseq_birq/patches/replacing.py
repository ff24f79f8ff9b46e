"""Replacing a function of another package, for good or for a while."""

from contextlib import ExitStack, contextmanager


@contextmanager
def replaced(*replacements):
    """Each of (owner, name, replacement) inside; outside what was there before, also after an error."""
    with ExitStack() as stack:
        for owner, name, replacement in replacements:
            before = vars(owner)[name]  # a staticmethod stays one
            stack.callback(setattr, owner, name, before)
            setattr(owner, name, replacement)
        yield
