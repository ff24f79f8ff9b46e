"""What the tests of the doors to fairseq2 share. They are a run of their own, in fairseq2's environment: `make test-fairseq2`."""

import os

import fairseq2
import pytest
import torch
from fairseq2.runtime.dependency import get_dependency_resolver

from fairseq_birq.fairseq2 import register
from tests.fixtures.manifests import write_corpus


def pytest_configure():
    """fairseq2's library with our extension, also where the package is on the path and not installed."""
    os.environ["OMP_NUM_THREADS"] = "1"  # fairseq2 asks it how many threads torch may have
    torch.set_num_threads(1)
    fairseq2.init_fairseq2(extras=register, no_progress=True)


@pytest.fixture(scope="session")
def resolver():
    return get_dependency_resolver()


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Twelve utterances of 1 to 3.2 s in train.tsv, and two in valid.tsv."""
    return write_corpus(tmp_path_factory.mktemp("corpus"))
