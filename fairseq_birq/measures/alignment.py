"""Phone alignments of a corpus: one table, one CTM file, or a folder of Praat's TextGrids."""

import logging
from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath
from typing import Dict, List, Tuple

from fairseq_birq.data.manifest import Manifest
from fairseq_birq.data.text import text_lines
from fairseq_birq.errors import UserError

logger = logging.getLogger(__name__)

Alignment = Dict[int, List[Tuple[float, float, str]]]  # row of the manifest -> (start_s, end_s, phone)
_COLUMNS = ("utt_index", "start_s", "end_s", "phone")


def read_any_alignment(path, manifest: Manifest, tier: str = "phones") -> Alignment:
    """The alignment of a manifest's rows: a folder of TextGrids, a `.ctm` file, or else a table.

    CTM utterances and TextGrids belong to the row whose path, without suffix, is theirs; or whose file name is, where
    that names one row only. What belongs to no row is counted in the log.

    tier: name of the TextGrids' tier

    Raises:
        UserError: a file cannot be read, or nothing in it belongs to the manifest.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such alignment")
    if path.is_dir():
        return _of_rows(_text_grids(path, tier), path, manifest)
    if path.suffix == ".ctm":
        return _of_rows(_ctm(path), path, manifest)
    alignment = read_alignment(path)
    outside = [row for row in alignment if not 0 <= row < len(manifest)]
    if outside or not alignment:
        raise UserError(f"{path}: is not of {manifest.path}: it has rows {sorted(outside)[:3]} of {len(manifest)}")
    return alignment


def read_alignment(path) -> Alignment:
    """A table with the columns utt_index, start_s, end_s and phone, tab-separated.

    Raises:
        UserError: the file is missing or not UTF-8, a column is missing, or a row is no interval.
    """
    lines, intervals = text_lines(path, "alignment"), defaultdict(list)
    columns = next(lines, (1, ""))[1].split("\t")
    missing = [column for column in _COLUMNS if column not in columns]
    if missing:
        raise UserError(f"{path}: has no column {missing}; an alignment needs {list(_COLUMNS)}, tab-separated")
    places = [columns.index(column) for column in _COLUMNS]
    for number, line in lines:
        if not line:
            continue
        cells = line.split("\t")
        try:
            row, start, end, phone = (convert(cells[place]) for convert, place in zip((int, float, float, str), places))
            if row < 0:
                raise ValueError("no row")
            intervals[row].append(_interval(start, end, phone))
        except (IndexError, ValueError):
            raise UserError(f"{path}, line {number}: not an interval: {cells}") from None
    return intervals


def _ctm(path):
    """{utterance: intervals} of lines `utterance channel start_s duration_s phone [confidence]`; `;;` begins a comment."""
    intervals = defaultdict(list)
    for number, line in text_lines(path, "alignment"):
        fields = line.split()
        if not fields or line.startswith(";;"):
            continue
        try:
            utterance, _, start, duration, phone = fields[:5]
            intervals[utterance].append(_interval(float(start), float(start) + float(duration), phone))
        except ValueError:
            wanted = "`utterance channel start_s duration_s phone`"
            raise UserError(f"{path}, line {number}: must be {wanted}, but is {line.strip()!r}") from None
    return intervals


def _text_grids(folder, tier):
    """{path inside the folder, without suffix: intervals} of all its TextGrids."""
    try:
        from praatio.textgrid import openTextgrid
        from praatio.utilities.errors import PraatioException
    except ImportError:
        raise UserError("TextGrids need praatio: pip install 'fairseq_birq[align]'") from None
    intervals = {}
    for path in sorted(folder.rglob("*.TextGrid")):
        try:
            grid = openTextgrid(str(path), includeEmptyIntervals=False, reportingMode="silence")
            known = {name: grid.getTier(name).entries for name in grid.tierNames}
            found = known.get(tier)
            intervals[path.relative_to(folder).with_suffix("").as_posix()] = found and [_interval(*entry) for entry in found]
        except (PraatioException, ValueError, IndexError, KeyError, TypeError) as error:
            raise UserError(f"{path}: not readable as a TextGrid ({' '.join(str(error).split())})") from None
        if found is None:
            raise UserError(f"{path}: has no tier {tier!r}; it has {list(known)}. Name one with --tier")
    return intervals


def _interval(start, end, phone):
    """Raises ValueError where it is none."""
    if not (0 <= start <= end < float("inf")) or phone is None:
        raise ValueError(f"from {start} to {end} s is no interval")
    return float(start), float(end), phone


def _of_rows(intervals, path, manifest) -> Alignment:
    names = [str(PurePosixPath(manifest.name(row)).with_suffix("")) for row in range(len(manifest))]
    stems = [PurePosixPath(name).name for name in names]
    often = Counter(stems)
    rows = {stem: row for row, stem in enumerate(stems) if often[stem] == 1}
    rows.update({name: row for row, name in enumerate(names)})
    found = {utterance: rows.get(utterance, rows.get(PurePosixPath(utterance).name)) for utterance in intervals}
    alignment = {row: intervals[utterance] for utterance, row in found.items() if row is not None}
    if not alignment:
        example = f"; it names {next(iter(found))!r}, the manifest {names[0]!r}" if found else ", it is empty"
        raise UserError(f"{path}: no utterance of it is in {manifest.path}{example}")
    if len(alignment) < len(found):
        logger.warning(f"{path}: {len(found) - len(alignment)} of its {len(found)} utterances belong to no row")
    return alignment
