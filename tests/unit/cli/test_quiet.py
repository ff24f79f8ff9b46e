"""Our commands say what they do, and not what fairseq would like to have."""

import subprocess
import sys

CODE = """
import importlib, pkgutil
import fairseq_birq.cli
for module in pkgutil.iter_modules(fairseq_birq.cli.__path__):
    importlib.import_module("fairseq_birq.cli." + module.name)
import fairseq.tasks.text_to_speech
"""


def test_the_start_of_a_command_prints_nothing():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CODE], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0 and done.stdout == ""
