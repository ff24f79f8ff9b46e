"""`pip install -e .` for pip and setuptools of every age that the two fairseqs need; all metadata is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithLists(build_py):
    """A wheel holds the split lists of manifests/, which `birq-manifest` reads there in a checkout."""

    def run(self):
        super().run()
        if not getattr(self, "editable_mode", False):
            for path in [*Path("manifests").glob("*/*.txt"), *Path("manifests").glob("*/*.tsv")]:
                target = Path(self.build_lib, "fairseq_birq", "corpora", "lists", *path.parts[1:])
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)


setup(cmdclass={"build_py": BuildWithLists})
