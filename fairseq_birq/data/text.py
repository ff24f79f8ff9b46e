"""Text files that users write: lines, or an error that names the file."""

from pathlib import Path
from typing import Iterator, Tuple

from fairseq_birq.errors import UserError


def text_lines(path, missing: str) -> Iterator[Tuple[int, str]]:
    """(line number, line without its end) of a UTF-8 file. missing: what the file is, where there is none.

    Raises:
        UserError: the file is missing, or not UTF-8 text.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such {missing}")
    number = 0
    with open(path, encoding="utf-8") as file:
        try:
            for number, line in enumerate(file, start=1):
                yield number, line.rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: is not UTF-8 text, somewhere after line {number} ({error.reason}); convert it") from None
