"""Files that are whole or not there, and their SHA-256: the one place that writes them."""

import hashlib
import os
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import Iterable


@contextmanager
def moved_into_place(path, temporary, keep: bool = False):
    """`temporary`, a path beside `path`, to write to; it becomes `path` at the end, or is removed after an error.

    keep: a file that is at `path` by then stays
    """
    path, temporary = Path(path), Path(temporary)
    try:
        temporary.unlink(missing_ok=True)  # what a killed process left may be a further name of a good file
        yield temporary
        if keep:
            _link(temporary, path)
        else:
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def written_whole(path, keep: bool = False):
    """A binary file that appears under its name once it is complete, or never. keep: one that is there by then stays."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    name = f".{path.name}.{uuid.uuid4().hex}.tmp"  # other machines have our process id too
    with moved_into_place(path, path.with_name(name), keep) as temporary, open(temporary, "w+b") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def write_lines(path, lines: Iterable[str]) -> None:
    """A text file, whole or not there. Bytes of file names that are not UTF-8 stay as they were."""
    with written_whole(path) as file:
        for line in lines:
            file.write(f"{line}\n".encode("utf-8", "surrogateescape"))


def _link(temporary, path):
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        os.replace(temporary, path)


def file_sha256(path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
