"""`pip install -e .` for pip and setuptools of every age that the two fairseqs need; all metadata is in pyproject.toml."""

from setuptools import setup

setup()
