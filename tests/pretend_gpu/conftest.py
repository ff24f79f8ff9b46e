"""The tier `pretend_gpu` has a process of its own: the device, once made, stays until the process ends, and torch then treats
that process as one on a machine with an accelerator (a DataLoader pins memory, for instance)."""

import pytest

from tests.fixtures.pretend_gpu import PretendGpu, available


def pytest_collection_modifyitems(items):
    if not available():
        for item in items:
            item.add_marker(pytest.mark.skip(reason="this torch has no Python devices"))


@pytest.fixture
def gpu():
    with PretendGpu() as gpu:
        yield gpu
