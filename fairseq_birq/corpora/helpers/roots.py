"""Corpora whose files lie anywhere: absolute paths, the root of a manifest, and names of splits."""

import os
from pathlib import Path
from typing import Dict, Sequence

from fairseq_birq.errors import UserError


def absolute(path: str) -> str:
    """The path from the root of the file system, `..` resolved; links are kept."""
    return os.path.normpath(os.path.join(os.getcwd(), path))


def common_root(paths: Sequence[str], message: str) -> str:
    """The deepest folder that holds all files.

    Raises:
        UserError: with `message`, if there is no file.
    """
    if not paths:
        raise UserError(message)
    return os.path.commonpath([os.path.dirname(path) for path in paths])


def check_split_names(splits: Dict[str, Path], count: int) -> Dict[str, Path]:
    """Raises: UserError: two of `count` folders or files have one name."""
    if len(splits) != count:
        raise UserError(f"splits are named after their folder or file, but only {', '.join(splits)} differ; rename some")
    return splits
