"""The scripts of experiments/ import each other by their bare names, as when they are run."""

import sys

from tests.conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "experiments"))
