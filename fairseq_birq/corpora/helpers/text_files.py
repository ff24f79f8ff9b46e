"""Text files of corpora, read with the mistakes named: tables of `key value` and JSON."""

import gzip
import json
import zlib
from pathlib import Path
from typing import Dict, Iterator, Tuple

from fairseq_birq.errors import UserError


def read_lines(path) -> Iterator[Tuple[str, str]]:
    """(line without spaces around it, "file, line n") of every line that is not empty; `.gz` is unpacked.

    Raises:
        UserError: the file is missing, damaged or not UTF-8.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8", newline="\n") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield line.strip(), f"{path}, line {number}"
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text ({error})") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path}: is a damaged gzip file ({error})") from None


def read_table(path) -> Dict[str, str]:
    """Kaldi's tables, `key value with spaces`, a line each; the value is all that follows the first spaces.

    Raises:
        UserError: as `read_lines`, or a key comes twice.
    """
    table = {}
    for line, where in read_lines(path):
        key, *value = line.split(None, 1)
        if key in table:
            raise UserError(f"{where}: repeats {key}; remove one of the two lines")
        table[key] = value[0] if value else ""
    return table


def read_json(path):
    """Raises: UserError: the file is missing or no JSON."""
    path = Path(path)
    try:
        return parse_json(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text ({error})") from None


def parse_json(text: str, where: str):
    """Raises: UserError: the text is no JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: is not JSON ({error})") from None
