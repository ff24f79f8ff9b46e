import hashlib

import pytest

from fairseq_birq.data.files import file_sha256, written_whole


def test_a_file_is_whole_or_not_there(tmp_path):
    path = tmp_path / "new" / "file"
    with pytest.raises(KeyboardInterrupt), written_whole(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert list(path.parent.iterdir()) == []
    for content, keep, expected in [(b"one", True, b"one"), (b"two", True, b"one"), (b"three", False, b"three")]:
        with written_whole(path, keep=keep) as file:
            file.write(content)
        assert path.read_bytes() == expected
    assert list(path.parent.iterdir()) == [path]


def test_a_files_sha256_is_hashlibs(tmp_path):
    content = bytes(range(256)) * 10000
    (tmp_path / "x").write_bytes(content)
    assert file_sha256(tmp_path / "x") == hashlib.sha256(content).hexdigest()
