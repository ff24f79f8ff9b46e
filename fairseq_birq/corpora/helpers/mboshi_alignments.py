"""Mboshi's two alignments as `.phn` tables: of letters for every split, of phones (LIMSI's) for dev and test.

Of letters (align-kit-old/<part>/<name>.txt, lines of `LETTER start end`): all begin at 0.116 s and are 75 ms late, measured by
the change of the spectrum around their boundaries, so 75 ms are taken off; letters are in lower case here.
Of phones (limsi-align/dev0.seg, a block of lines for each utterance): a phone is one Latin-1 character, where `.` is written
as SIL and `!` as UNK; words are UTF-8.
"""

import re
from collections import Counter
from pathlib import Path
from typing import Dict, Iterable, List, NamedTuple, Sequence

from fairseq_birq.corpora.helpers.text_files import read_lines
from fairseq_birq.data.manifest import write_lines
from fairseq_birq.errors import UserError

DELAY_S = 0.075
FRAME_S = 0.01  # of LIMSI's alignment
COLUMNS = "utt_index\tpath\tstart_s\tend_s\tphone"
LIMSI_COLUMNS = f"{COLUMNS}\tword\tword_index"
LIMSI_NAMES = {".": "SIL", "!": "UNK"}
SILENCES = ("[silence]", "<s>", "</s>")


class LimsiPhone(NamedTuple):
    start_s: float
    end_s: float
    phone: str
    word: str  # SIL between words
    word_index: int  # -1 between words


def write_letters(out, split: str, paths: Sequence[str], files: Iterable[Path]) -> Counter:
    """Write `<split>.phn`; an utterance without alignment has no rows.

    paths: of the split's rows; files: the alignment of each

    Returns:
        letter -> how often
    """
    lines, counts = [COLUMNS], Counter()
    for index, (path, file) in enumerate(zip(paths, files)):
        for start_s, end_s, letter in _read_letters(file) if file.is_file() else []:
            lines.append(f"{index}\t{path}\t{start_s:.3f}\t{end_s:.3f}\t{letter}")
            counts[letter] += 1
    write_lines(Path(out) / f"{split}.phn", lines)
    return counts


def write_phones(out, split: str, paths: Sequence[str], names: Iterable[str], table: Dict[str, List[LimsiPhone]]) -> Counter:
    """Write `<split>.limsi.phn`; an utterance that `table` lacks has no rows.

    Returns:
        phone -> how often
    """
    lines, counts = [LIMSI_COLUMNS], Counter()
    for index, (path, name) in enumerate(zip(paths, names)):
        for row in table.get(name, []):
            lines.append(f"{index}\t{path}\t{row.start_s:.2f}\t{row.end_s:.2f}\t{row.phone}\t{row.word}\t{row.word_index}")
            counts[row.phone] += 1
    write_lines(Path(out) / f"{split}.limsi.phn", lines)
    return counts


def write_counts(path, counts: Counter) -> None:
    """Write `symbol count`, the most frequent first."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    write_lines(path, (f"{symbol} {count}" for symbol, count in ranked))


def _read_letters(file):
    for line, where in read_lines(file):
        try:
            letter, start_s, end_s = line.split()
            yield float(start_s) - DELAY_S, float(end_s) - DELAY_S, letter if letter == "SIL" else letter.lower()
        except ValueError:
            raise UserError(f"{where}: must be `LETTER start end`, but is {line!r}") from None


def read_limsi(path, names: Sequence[str]) -> Dict[str, List[LimsiPhone]]:
    """name -> phones of the utterances `names`; others are skipped.

    Raises:
        UserError: a line of one of them is malformed.
    """
    table, wanted, rows, word, index = {}, set(names), None, "", -1
    for number, line in enumerate(Path(path).read_bytes().split(b"\n"), start=1):
        if line.startswith(b"#@ sid="):
            name = line[len(b"#@ sid=") :].decode().strip().rsplit(".", 1)[0]
            rows, index = (table.setdefault(name, []) if name in wanted else None), -1
        elif rows is None or not line.strip() or line.startswith((b"# ", b"#@ nbs=")):
            continue
        elif line.startswith(b"#@ word="):
            word = line[len(b"#@ word=") :].rsplit(b" nbs=", 1)[0].decode("utf-8")
            is_word = word not in SILENCES
            index += is_word
            place = (word, index) if is_word else ("SIL", -1)
        else:
            rows.append(_limsi_phone(line.decode("latin-1"), place, f"{path}, line {number}"))
    return table


def _limsi_phone(line: str, place, where: str) -> LimsiPhone:
    """`<name> <model>:<left><phone><right><position> 1 <first frame> <frames of three states>`, frames from 1 on."""
    match = re.fullmatch(r"\S+ [0-9]+:.(.).[0-9] 1 ([0-9]+) ([0-9]+) ([0-9]+) ([0-9]+)", line.strip("\n"))
    if not match:
        raise UserError(f"{where}: is not a phone of LIMSI's alignment: {line!r}")
    phone, first, *frames = match.groups()
    begin = int(first) - 1
    end = begin + sum(map(int, frames))
    return LimsiPhone(begin * FRAME_S, end * FRAME_S, LIMSI_NAMES.get(phone, phone), *place)
