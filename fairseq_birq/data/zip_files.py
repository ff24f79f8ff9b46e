"""Zips that are stored without compression: where each file in them lies, so that it is read by its bytes alone."""

import os
import struct
import zipfile
from pathlib import PurePosixPath, PureWindowsPath
from typing import BinaryIO, List, NamedTuple

from fairseq_birq.errors import UserError

_LOCAL_HEADER = struct.Struct("<26xHH")  # lengths of the name and of the extra field that come before the content
_ENCRYPTED = 1


class ZipEntry(NamedTuple):
    name: str
    offset: int  # bytes
    size: int  # bytes


def stored_entries(path) -> List[ZipEntry]:
    """The files in a zip, in their order.

    Raises:
        UserError: it is missing or damaged, or one of its files is compressed, encrypted, or named outside of the zip.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such zip")
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            return [_entry(path, file, info) for info in archive.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, struct.error, NotImplementedError) as error:
        raise UserError(f"{path}: is damaged or no zip ({error})") from None


def _entry(path, file: BinaryIO, info: zipfile.ZipInfo) -> ZipEntry:
    if _leaves_the_zip(info.filename):
        raise UserError(f"{path}: its entry {info.filename} has an absolute name or `..` in it; such a zip is refused")
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & _ENCRYPTED:
        raise UserError(f"{path}: its entry {info.filename} is compressed or encrypted; make the zip with `zip -0`")
    file.seek(info.header_offset)
    name_length, extra_length = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    return ZipEntry(info.filename, info.header_offset + _LOCAL_HEADER.size + name_length + extra_length, info.file_size)


def _leaves_the_zip(name) -> bool:
    windows = PureWindowsPath(name)  # also splits at `/`
    return ".." in windows.parts or bool(windows.anchor) or PurePosixPath(name).is_absolute()
