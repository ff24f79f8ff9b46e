"""Fixtures shared by all tests: paths of the real-speech data pack, which tests skip where it is missing."""

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
DATA_PACK = REPOSITORY.parent / "shared" / "data"


def _corpus(name):
    folder = DATA_PACK / name
    if not folder.is_dir():
        pytest.skip(f"the real-speech data pack is not here: {folder} is missing")
    return folder


@pytest.fixture(scope="session")
def repository():
    return REPOSITORY


@pytest.fixture(scope="session")
def mboshi():
    return _corpus("mboshi")


@pytest.fixture(scope="session")
def fsdd():
    return _corpus("fsdd")
