"""Text files of corpora, read with the mistakes named: tables of `key value` and JSON."""

import json
from typing import Dict, Iterator, Tuple

from fairseq_birq.data.text import text_lines, whole_text
from fairseq_birq.errors import UserError


def read_lines(path) -> Iterator[Tuple[str, str]]:
    """(line without spaces around it, "file, line n") of every line that is not empty; `.gz` is unpacked.

    Raises:
        UserError: the file is missing, damaged or not UTF-8.
    """
    for number, line in text_lines(path, "file"):
        if line.strip():
            yield line.strip(), f"{path}, line {number}"


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
    return parse_json(whole_text(path, "file"), str(path))


def parse_json(text: str, where: str):
    """Raises: UserError: the text is no JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: is not JSON ({error})") from None
