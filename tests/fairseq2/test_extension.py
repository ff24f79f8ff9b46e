"""fairseq2 finds the extension by its entry point, and the real fairseq2 is the one that is imported."""

import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import fairseq2
import pytest
from fairseq2.models import ModelFamily
from fairseq2.runtime.dependency import DependencyContainer

import fairseq_birq.fairseq2
from fairseq_birq.fairseq2 import register

REPOSITORY = Path(fairseq_birq.__file__).parents[1]
ENTRY_POINT = 'fairseq_birq = "fairseq_birq.fairseq2:register"'


def test_the_real_fairseq2_is_imported():
    assert fairseq2.__version__ == "0.8.1" and not Path(fairseq2.__file__).is_relative_to(REPOSITORY / "fairseq_birq")
    assert Path(fairseq_birq.fairseq2.__file__).is_relative_to(REPOSITORY)


def test_the_package_names_its_entry_point():
    assert f'[project.entry-points."fairseq2.extension"]\n{ENTRY_POINT}\n' in (REPOSITORY / "pyproject.toml").read_text()
    assert EntryPoint("fairseq_birq", "fairseq_birq.fairseq2:register", "fairseq2.extension").load() is register


def test_fairseq2_calls_it_when_the_package_is_installed(tmp_path):
    installed = tmp_path / "fairseq_birq-0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: fairseq_birq\nVersion: 0\n")
    (installed / "entry_points.txt").write_text("[fairseq2.extension]\nfairseq_birq = fairseq_birq.fairseq2:register\n")
    code = """
import fairseq2
from fairseq2.models import ModelFamily
resolver = fairseq2.init_fairseq2()
print(sorted(resolver.resolve(ModelFamily, key="birq").get_archs()))
"""
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{REPOSITORY}", "FAIRSEQ2_EXTENSION_TRACE": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "['base', 'base12', 'c1', 'c2', 'c3', 'debug', 'mboshi_small']"


@pytest.mark.parametrize("times", [1, 2])
def test_a_second_registration_changes_nothing(times):
    container = DependencyContainer()
    for _ in range(times):
        register(container)
    assert list(container.iter_keys(ModelFamily)).count("birq") == 1
