import hashlib
import os
import pickle
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fairseq_birq.data import manifest as manifest_module
from fairseq_birq.data import manifest_index, manifest_rows
from fairseq_birq.data.manifest import read_manifest
from fairseq_birq.data.manifest_index import IndexedRows
from fairseq_birq.errors import UserError

ROWS = [(f"spk{row % 7}/ünï code {row}.flac", 1000 + row * 37 % 501) for row in range(300)]


@pytest.fixture(autouse=True)
def small_blocks_and_a_cache_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest_module, "INDEX_FROM_BYTES", 1)
    monkeypatch.setattr(manifest_rows, "BLOCK_BYTES", 700)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def built(monkeypatch):
    """Paths of the indices that were built, in their order."""
    places, build = [], manifest_index._build
    monkeypatch.setattr(manifest_index, "_build", lambda place, path: (build(place, path), places.append(place))[0])
    return places


@pytest.fixture
def hashed(monkeypatch):
    """Paths of the files whose SHA-256 was taken."""
    paths, sha256 = [], manifest_index.file_sha256
    monkeypatch.setattr(manifest_index, "file_sha256", lambda path: (paths.append(path), sha256(path))[1])
    return paths


def write(path, rows=ROWS, root="/r", end="\n"):
    path.write_bytes(end.join([root, *(f"{name}\t{count}" for name, count in rows), ""]).encode())
    return path


def settle(index):
    """As if it had been made long after the manifest."""
    os.utime(index, (time.time() + 60, time.time() + 60))


def content(manifest):
    names = [manifest.name(row) for row in range(len(manifest))]
    return names, manifest.num_samples.tolist(), [manifest.count(row) for row in range(len(manifest))]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_an_index_has_the_rows_and_the_fingerprint_of_the_text(tmp_path, monkeypatch, built, end):
    path = write(tmp_path / "x.tsv", end=end)
    first, second = read_manifest(path), read_manifest(path)
    assert built == [tmp_path / ".x.tsv.index"] and isinstance(second._rows, IndexedRows)
    monkeypatch.setattr(manifest_module, "INDEX_FROM_BYTES", 10**9)
    in_memory = read_manifest(path)
    assert not isinstance(in_memory._rows, IndexedRows)
    names, counts = [name for name, _ in ROWS], [count for _, count in ROWS]
    for manifest in (first, second, in_memory):
        assert content(manifest) == (names, counts, counts) and manifest.audio_path(2) == f"/r/{names[2]}"
    joined = "".join(names).encode()
    ends = np.cumsum([len(name.encode()) for name in names]).astype("<i8").tobytes()
    expected = hashlib.sha256(joined + ends + np.array(counts, "<i8").tobytes()).hexdigest()  # what labels have recorded
    assert first.fingerprint() == second.fingerprint() == in_memory.fingerprint() == expected


@pytest.mark.parametrize("is_settled", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b"code 5.", b"code X."),
        lambda text: text.replace(b"\t1037\n", b"\t1038\n"),
        lambda text: text + b"new.flac\t5\n",
        lambda text: text[: text.rindex(b"spk")],
    ],
)
def test_a_changed_manifest_is_never_read_through_its_old_index(tmp_path, built, change, is_settled):
    path = write(tmp_path / "x.tsv")
    read_manifest(path)
    if is_settled:
        settle(built[0])
    stat, text = path.stat(), change(path.read_bytes())
    assert text != path.read_bytes()
    with open(path, "r+b") as file:  # in place, and with the old time of change
        file.truncate(0)
        file.write(text)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    names = [line.split(b"\t")[0].decode() for line in text.split(b"\n")[1:-1]]
    assert content(read_manifest(path))[0] == names and len(built) == 2
    settle(built[1])
    os.replace(write(tmp_path / "other.tsv", ROWS[::-1]), path)
    assert content(read_manifest(path))[0] == [name for name, _ in ROWS[::-1]]


def test_the_root_is_read_from_the_manifest_itself(tmp_path, built):
    write(tmp_path / "x.tsv")
    read_manifest(tmp_path / "x.tsv")
    assert read_manifest(write(tmp_path / "x.tsv", root="/s")).root == "/s"


def test_a_settled_index_is_used_without_reading_the_manifest(tmp_path, built, hashed):
    path = write(tmp_path / "x.tsv")
    read_manifest(path)
    read_manifest(path)
    assert len(hashed) == 2  # once to build, and once more since it changed a moment ago
    then = time.time() - 600
    os.utime(path, (then, then))
    read_manifest(path)  # another time of change, the same content
    assert len(hashed) == 3 and len(built) == 1
    manifest_index._build(built[0], path)
    settle(built[0])
    hashed.clear()
    assert len(read_manifest(path)) == len(ROWS) and hashed == []


def test_a_damaged_index_is_made_again(tmp_path, built):
    path = write(tmp_path / "x.tsv")
    read_manifest(path)
    whole = built[0].read_bytes()
    for damaged in (b"", whole[:-1], whole[:50], whole[: len(whole) // 2] + whole[len(whole) // 2 + 8 :], bytes(len(whole))):
        built[0].write_bytes(damaged)
        assert content(read_manifest(path))[0] == [name for name, _ in ROWS]
    assert len(built) == 6 and built[0].read_bytes() == whole


def test_where_the_folder_is_read_only_the_index_is_cached(tmp_path, built):
    path = write(tmp_path / "x.tsv")
    (tmp_path / ".x.tsv.index").mkdir()  # no file can be written there, not even by root
    for _ in range(2):
        assert content(read_manifest(path))[0] == [name for name, _ in ROWS]
    (place,) = built
    assert place.is_relative_to(tmp_path / "cache") and sorted(os.listdir(tmp_path)) == [".x.tsv.index", "cache", "x.tsv"]


def test_where_nothing_can_be_written_rows_stay_in_memory(tmp_path, caplog):
    path = write(tmp_path / "x.tsv")
    (tmp_path / ".x.tsv.index").mkdir()
    (tmp_path / "cache").write_text("a file")
    with caplog.at_level("WARNING"):
        manifest = read_manifest(path)
    assert content(manifest)[0] == [name for name, _ in ROWS] and not isinstance(manifest._rows, IndexedRows)
    assert len(caplog.messages) == 1 and "x.tsv: stays in the memory" in caplog.messages[0]


def test_processes_that_build_at_once_do_not_hurt_each_other(tmp_path, built):
    path = write(tmp_path / "x.tsv")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: content(read_manifest(path)), range(16)))
    assert all(one == found[0] for one in found) and found[0][0] == [name for name, _ in ROWS]
    assert sorted(os.listdir(tmp_path)) == [".x.tsv.index", "x.tsv"]


@pytest.mark.parametrize(
    "bad, where",
    [
        ("a.wav 5", "line 302.*TAB"),
        (ROWS[4][0] + "\t5", "line 302: repeats.*line 6"),
        ("../a\t5", "line 302.*outside"),
        ("a.wav\t" + "9" * 19, "line 302.*whole number"),
    ],
)
def test_a_wrong_manifest_leaves_no_index(tmp_path, bad, where):
    path = write(tmp_path / "x.tsv")
    with open(path, "a") as file:
        file.write(bad + "\n")
    with pytest.raises(UserError, match=f"x.tsv, {where}"):
        read_manifest(path)
    assert os.listdir(tmp_path) == ["x.tsv"]


def test_an_index_travels_between_processes_by_its_path(tmp_path, built):
    manifest = read_manifest(write(tmp_path / "x.tsv"))
    packed = pickle.dumps(manifest)
    assert len(packed) < 1000 and content(pickle.loads(packed)) == content(manifest)
    read_manifest(write(tmp_path / "x.tsv", ROWS[:-1]))
    with pytest.raises(UserError, match="changed during the run"):
        pickle.loads(packed)
    assert content(manifest)[0] == [name for name, _ in ROWS]  # the old file, still open
