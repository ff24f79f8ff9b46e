"""The tests on the pretend GPU, in a process of their own; `python -m pytest tests/pretend_gpu` runs them by hand."""

import re
import subprocess
import sys

import pytest


def test_the_tier_passes(repository):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/pretend_gpu"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.fail(f"{' '.join(command[1:])}:\n{done.stdout[-8000:]}{done.stderr[-2000:]}", pytrace=False)
    if not re.search(r"\d+ passed", done.stdout):
        pytest.skip("this torch has no Python devices, which the pretend GPU is made of")
