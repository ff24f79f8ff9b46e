"""Text files that users write: the one place that reads them. Lines, or an error that names the file."""

import codecs
import gzip
import zlib
from pathlib import Path
from typing import Iterator, Tuple

from fairseq_birq.errors import UserError

ENCODING = "utf-8-sig"  # UTF-8; the byte order mark that some editors write at the beginning is none of the text


def text_lines(path, missing: str) -> Iterator[Tuple[int, str]]:
    """(line number, line without its end) of a UTF-8 file; `.gz` is unpacked. missing: what the file is, where there is none.

    Raises:
        UserError: the file is missing, damaged, or not UTF-8 text.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such {missing}")
    opened, number = gzip.open if path.suffix == ".gz" else open, 0
    try:
        with opened(path, "rt", encoding=ENCODING, newline="\n") as file:
            for number, line in enumerate(file, start=1):
                yield number, line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text, somewhere after line {number} ({error.reason}); convert it") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path}: is a damaged gzip file ({error})") from None


def whole_text(path, missing: str) -> str:
    """All of a small file. Raises UserError as `text_lines`."""
    return "\n".join(line for _, line in text_lines(path, missing))


def without_mark(line: bytes) -> bytes:
    """The first line of a file that is read as bytes, without its byte order mark."""
    return line[len(codecs.BOM_UTF8) :] if line.startswith(codecs.BOM_UTF8) else line
