"""A corpus in few big files, for network file systems: the audio of a manifest in zips that are stored, not compressed.

The new manifest names the bytes of every file in them (`audio_paths`). A piece of a long file becomes a file of its own,
mono 16-bit FLAC; everything else is copied bit for bit.
"""

import io
import itertools
import json
import os
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Iterator, List, NamedTuple, Tuple, Union

import numpy as np
import soundfile

from fairseq_birq.data.audio import AudioError, content, read, read_header
from fairseq_birq.data.audio_paths import parse_audio_path
from fairseq_birq.data.files import write_lines, written_whole
from fairseq_birq.data.manifest import Manifest, parallel_lines, read_manifest, write_manifest
from fairseq_birq.data.zip_files import stored_entries
from fairseq_birq.errors import UserError
from fairseq_birq.progress import progress

BESIDE = ("wrd", "ltr", "spk", "rate")  # files with a line per row, which come along
READERS = 8  # threads; network file systems are slow to open files
ROWS_AHEAD = 64  # read at once
_OVERHEAD = 200  # bytes in a zip per file, beyond twice its name
_DATE = (1980, 1, 1, 0, 0, 0)  # the same corpus makes the same zips


class _Row(NamedTuple):
    """A row of the new manifest: which one it was, its bytes' place, its samples."""

    row: int
    path: str
    num_samples: int


def pack(manifest, out, gigabytes: float) -> List[str]:
    """Write `<split>-00000.zip`, ... and `<split>.tsv` into `out`, with the files of lines beside the manifest.

    Stopped and called again, it goes on after the last whole zip. The manifest is written last.

    Args:
        manifest: path of `<split>.tsv`.
        gigabytes: at most so many 10^9 bytes of audio in a zip.

    Returns:
        Lines that say what was written and what was left out.

    Raises:
        UserError: a setting, the manifest or a file beside it is wrong, one file exceeds a zip, or nothing is usable.
    """
    if not gigabytes > 0:
        raise UserError(f"--pack-zip must be > 0 (gigabytes in a zip), but is {gigabytes}")
    manifest, out = read_manifest(manifest), Path(out)
    split = manifest.path.stem
    if out.resolve() == manifest.path.parent.resolve():
        raise UserError(f"{out}: holds the manifest that is to be packed; name another folder")
    beside = _lines_beside(manifest)
    settings = {"manifest_sha256": manifest.fingerprint(), "gigabytes": float(gigabytes)}
    _begin(out / f"{split}.zips.json", settings)
    rows, left_out = _pack_all(manifest, out, split, int(gigabytes * 10**9))
    if not rows:
        raise UserError("\n".join([f"{manifest.path}: no audio could be packed", *left_out]))
    for suffix, lines in beside.items():
        write_lines(out / f"{split}.{suffix}", [lines[row.row] for row in rows])
    for dictionary in manifest.path.parent.glob("dict.*.txt"):
        shutil.copyfile(dictionary, out / dictionary.name)
    write_manifest(out / f"{split}.tsv", ".", [(row.path, row.num_samples) for row in rows])
    counted = f"{len(rows)} of {len(manifest)} files in {len({parse_audio_path(row.path).file for row in rows})} zips"
    return [*left_out, f"written     {out / split}.tsv: {counted}" + "".join(f", .{suffix}" for suffix in beside)]


def _lines_beside(manifest):
    """{suffix: lines} of the files that are there."""
    paths = {suffix: manifest.path.with_suffix(f".{suffix}") for suffix in BESIDE}
    return {suffix: parallel_lines(path, len(manifest)) for suffix, path in paths.items() if path.is_file()}


def _begin(stamp, settings):
    stamp.parent.mkdir(parents=True, exist_ok=True)
    if not stamp.exists():
        write_lines(stamp, [json.dumps(settings)])
    if json.loads(stamp.read_text()) != settings:
        raise UserError(f"{stamp}: the folder holds zips of another manifest or of another size; name another folder")


def _pack_all(manifest, out, split, limit) -> Tuple[List[_Row], List[str]]:
    """Rows of the new manifest, and a line on those that are missing in it."""
    rows, reasons, next_row = [], [], 0
    with progress(total=len(manifest), title=f"pack {split}", unit="files") as bar:
        for shard in itertools.count():
            path = out / f"{split}-{shard:05d}.zip"
            if not path.is_file():
                reasons += _write_zip(manifest, path, next_row, limit, bar)
            if not path.is_file():  # no usable audio was left
                break
            rows += _rows_of(manifest, path, next_row)
            next_row = rows[-1].row + 1
            bar.update(next_row - bar.n)
    missing, first = len(manifest) - len(rows), reasons[0] if reasons else "see the run before this one"
    return rows, [f"left out    {missing}, unusable audio; first: {first}"] if missing else []


def _write_zip(manifest, path, first_row, limit, bar) -> List[str]:
    """A zip of the rows from `first_row` on, as many as go in; no zip if none is usable. Returns why rows were left out."""
    names, reasons, size = set(), [], 0
    with written_whole(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for row, loaded in _load_all(manifest, first_row):
            bar.update(row + 1 - bar.n)
            if isinstance(loaded, str):
                reasons.append(loaded)
                continue
            name = _entry_name(manifest.name(row))
            size += len(loaded) + 2 * len(os.fsencode(name)) + _OVERHEAD
            if size > limit and names:
                break
            if size > limit:
                raise UserError(f"{manifest.audio_path(row)}: has {len(loaded)} bytes, more than a zip; raise --pack-zip")
            if name in names:
                raise UserError(f"{manifest.audio_path(row)}: another file would also be called {name} in the zip; rename it")
            names.add(name)
            archive.writestr(zipfile.ZipInfo(name, _DATE), loaded)
    if not names:
        path.unlink()
    return reasons


def _load_all(manifest: Manifest, first_row) -> Iterator[Tuple[int, Union[bytes, str]]]:
    """(row, bytes of its audio file, or why it is left out) from a row on."""
    with ThreadPoolExecutor(READERS) as readers:
        for start in range(first_row, len(manifest), ROWS_AHEAD):
            rows = range(start, min(start + ROWS_AHEAD, len(manifest)))
            yield from zip(rows, readers.map(lambda row: _load(manifest, row), rows))


def _load(manifest, row) -> Union[bytes, str]:
    path, expected = manifest.audio_path(row), int(manifest.num_samples[row])
    try:
        info = read_header(path, check_samples=True)
        if info.num_samples != expected:
            return f"{path}: holds {info.num_samples} samples, but the manifest says {expected}"
        return _encode(path, info.sample_rate) if parse_audio_path(path).is_segment else content(path)
    except AudioError as error:
        return str(error)


def _encode(path, sample_rate) -> bytes:
    wave, _ = read(path, sample_rate)
    integers = np.clip(np.round(wave * 2**15), -(2**15), 2**15 - 1).astype(np.int16)
    buffer = io.BytesIO()
    soundfile.write(buffer, integers, sample_rate, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def _entry_name(name) -> str:
    """A name in the zip for a path of the manifest; a part's numbers become part of it."""
    place = parse_audio_path(os.path.normpath(name).lstrip(os.sep))
    whole = place.file if place.length is None else f"{place.file}-{place.offset}-{place.length}"
    suffix = ".flac" if place.is_segment else ""
    return os.fsencode(whole + suffix).decode("utf-8", "replace")


def _rows_of(manifest, path, first_row) -> List[_Row]:
    """Rows of the new manifest for a zip whose first row is `first_row` or a later one.

    Raises:
        UserError: the zip holds something else.
    """
    rows, row = [], first_row
    for entry in stored_entries(path):
        while row < len(manifest) and _entry_name(manifest.name(row)) != entry.name:
            row += 1
        if row == len(manifest):
            raise UserError(f"{path}: holds {entry.name}, which is not what comes next in {manifest.path}; remove the zip")
        rows.append(_Row(row, f"{path.name}:{entry.offset}:{entry.size}", int(manifest.num_samples[row])))
        row += 1
    if not rows:
        raise UserError(f"{path}: is empty; remove it")
    return rows
