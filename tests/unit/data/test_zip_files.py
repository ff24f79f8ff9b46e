import zipfile

import pytest

from fairseq_birq.data.zip_files import stored_entries
from fairseq_birq.errors import UserError


def make(path, *names, compression=zipfile.ZIP_STORED, mode="w"):
    with zipfile.ZipFile(path, mode, compression) as archive:
        for name in names:
            info = zipfile.ZipInfo(name)
            info.extra = b"\x99\x99\x04\x00abcd"  # an extra field moves the content
            info.compress_type = compression
            archive.writestr(info, f"content of {name} " * 3)
    return path


def test_entries_lie_where_they_are_said_to(tmp_path):
    path = make(tmp_path / "a.zip", "a.wav", "ünïcode/b.wav", "folder/")
    raw = path.read_bytes()
    entries = stored_entries(path)
    assert [entry.name for entry in entries] == ["a.wav", "ünïcode/b.wav"]
    for entry in entries:
        assert raw[entry.offset : entry.offset + entry.size].decode() == f"content of {entry.name} " * 3


@pytest.mark.parametrize("name", ["../b.wav", "a/../../b.wav", "/etc/b.wav", "c:/b.wav", "..", "a\\..\\b.wav"])
def test_names_outside_the_zip_are_refused(tmp_path, name):
    with pytest.raises(UserError, match="x.zip: its entry .* refused"):
        stored_entries(make(tmp_path / "x.zip", "fine..wav", name))


def test_compressed_damaged_and_missing_zips_are_refused(tmp_path):
    with pytest.raises(UserError, match="b.wav is compressed.*zip -0"):
        stored_entries(make(make(tmp_path / "x.zip", "a.wav"), "b.wav", compression=zipfile.ZIP_DEFLATED, mode="a"))
    (tmp_path / "cut.zip").write_bytes((tmp_path / "x.zip").read_bytes()[:-30])
    with pytest.raises(UserError, match="cut.zip: is damaged"):
        stored_entries(tmp_path / "cut.zip")
    with pytest.raises(UserError, match="absent.zip: no such zip"):
        stored_entries(tmp_path / "absent.zip")
