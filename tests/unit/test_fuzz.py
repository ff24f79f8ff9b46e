"""Every parser of files that users write, on generated files: the result is sound, or a `UserError` names the file."""

import json
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairseq_birq.checkpoint import load_checkpoint
from fairseq_birq.corpora.helpers.transcripts import Transcripts
from fairseq_birq.data.frame_labels import LabelStore, read_info
from fairseq_birq.data.manifest import parallel_lines, read_manifest
from fairseq_birq.decoding.lexicon import read_lexicon
from fairseq_birq.doors.asr_task import read_dictionary, read_letters
from fairseq_birq.errors import UserError
from fairseq_birq.measures.alignment import read_alignment
from tests.fixtures.checkpoints import write_birq_checkpoint
from tests.fixtures.labels import write_labels
from tests.fixtures.manifests import write_manifest

SEGMENTS = st.sampled_from(["a.wav:0:5", "a.wav:5:5", "x.zip:3:4", "a.wav:" + "9" * 5000 + ":5", "a.wav:-1:5", "a:0:" + "9" * 18])
NUMBERS = st.one_of(
    st.integers(-3, 40).map(str),
    st.sampled_from(["1" + "0" * 30, "9" * 5000, str(2**63), "-0", "1e3", "nan", "inf", "0x1", "1_0", "٣", "³", " 5 ", ""]),
)
PLAIN = st.sampled_from(["a", "b", "|", "a.wav", "..", "../../etc/passwd", "/etc/passwd", "<s>", "#"])
WORDS = st.one_of(PLAIN, st.text(max_size=6))
CELLS = st.one_of(NUMBERS, WORDS)
ROOTS = st.sampled_from([".", "/audio", "audio", "..", "\x00", "a\tb", ""])
JUNK = st.binary(max_size=60)


def table(columns, separator="\t", first=None):
    """Bytes of a text file: mostly rows of the right width, sometimes anything."""
    row = st.one_of(st.tuples(*columns).map(separator.join), st.lists(CELLS, max_size=5).map(separator.join))
    lines = st.lists(row, max_size=6)
    whole = lines if first is None else st.tuples(first, lines).map(lambda parts: [parts[0], *parts[1]])
    ends = st.sampled_from(["\n", "\r\n", "\n\n", "\r"])
    text = st.tuples(whole, ends).map(lambda parts: parts[1].join([*parts[0], ""]).encode("utf-8", "replace"))
    return st.one_of(text, st.tuples(text, JUNK).map(b"".join), JUNK)


def check_manifest(path):
    manifest = read_manifest(path)
    assert len(manifest) > 0 and (manifest.num_samples >= 0).all() and (manifest.num_samples * 192_000 >= 0).all()
    assert all(manifest.name(row) and manifest.audio_path(row) for row in range(len(manifest)))
    assert len({manifest.name(row) for row in range(len(manifest))}) == len(manifest)


def check_transcripts(path):
    transcripts = Transcripts(path)
    for name in ("a.wav", "x/a.wav", "../../etc/passwd.wav", "b.flac"):
        text = transcripts.pop(name)
        assert text is None or ("|" not in text and text == " ".join(text.split()))


def check_lexicon(path):
    spellings = read_lexicon(path, {"a": 4, "b": 5, "|": 6})
    assert spellings and all(variant and set(variant) <= {4, 5, 6} for found in spellings.values() for variant in found)


def check_alignment(path):
    for row, intervals in read_alignment(path).items():
        assert row >= 0 and all(0 <= start <= end < float("inf") and isinstance(phone, str) for start, end, phone in intervals)


def check_dictionary(path):
    assert len(read_dictionary(path)) > 4


def check_letters(path):
    (path.parent / "dict.ltr.txt").write_text("a 1\nb 1\n| 1\n")
    rows = read_letters(path, 2, read_dictionary(path.parent / "dict.ltr.txt"))
    assert len(rows) == 2 and all(4 <= letter < 7 for row in rows for letter in row.tolist())
    assert len(parallel_lines(path, 2)) == 2


def check_labels_json(path):
    info = read_info(path.parent)
    assert info.num_shards <= 10**5 and info.num_utterances >= 0 and info.dtype in (np.int16, np.int32)
    with pytest.raises(UserError, match="shards are missing"):
        LabelStore(path.parent)


VALID_INFO = {"manifest_sha256": "", "num_utterances": 2, "sample_rate": 16000, "first_frame_samples": 880}
VALID_INFO.update(frame_step_samples=640, num_codebooks=2, codebook_size=64, source={}, fingerprint="", format=1)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(-(10**30), 10**30), st.floats(), st.text(max_size=5))
VALUES = st.recursive(LEAVES, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner)))
KEYS = st.one_of(st.sampled_from([*VALID_INFO, "num_shards", "command", "checkpoint_sha256"]), st.text(max_size=3))
NEARLY = st.dictionaries(st.sampled_from(["num_shards", "num_utterances", "sample_rate"]), st.integers(-1, 5), max_size=2)
CHANGED = st.one_of(NEARLY, st.dictionaries(KEYS, VALUES, max_size=3)).map(lambda changes: {**VALID_INFO, **changes})
DEEP = st.integers(1, 30000).map(lambda depth: b"[" * depth)
JSON = st.one_of(st.one_of(CHANGED, VALUES).map(lambda value: json.dumps(value).encode()), JUNK, DEEP)

SPELT = st.lists(st.sampled_from(["a", "b", "|", "c"]), max_size=4).map(" ".join)
LETTERS = st.lists(st.sampled_from("ab|"), max_size=4).map(" ".join)
HEADER = st.sampled_from(["utt_index\tstart_s\tend_s\tphone", "utt_index\tpath\tstart_s\tend_s\tphone", "phone", ""])
GOOD_ROWS = st.tuples(st.sampled_from(["a.wav", "b/c.flac", "d.zip:44:200", "/e.wav", "b/../f.wav", "ü"]), st.integers(0, 10**12))
GOOD_MANIFEST = st.lists(GOOD_ROWS, min_size=1, max_size=5, unique_by=lambda row: row[0]).map(
    lambda rows: "".join([".\n", "s.wav:9:5\t5\n", *(f"{name}\t{count}\n" for name, count in rows)]).encode()
)
GOOD_LEXICON = st.lists(
    st.tuples(st.sampled_from(["a", "ab", "ü"]), st.text("ab", min_size=1, max_size=4)), min_size=1, max_size=4
).map(lambda rows: "".join(f"{word} {' '.join(letters)} |\n" for word, letters in rows).encode())
PARSERS = {
    "x.tsv": (check_manifest, st.one_of(table([st.one_of(WORDS, SEGMENTS), NUMBERS], first=ROOTS), GOOD_MANIFEST)),
    "x.txt": (check_transcripts, table([WORDS, st.one_of(SPELT, WORDS)])),
    "lexicon.txt": (check_lexicon, st.one_of(table([WORDS, SPELT]), GOOD_LEXICON)),
    "x.phn": (check_alignment, table([NUMBERS, NUMBERS, NUMBERS, WORDS], first=HEADER)),
    "dict.txt": (check_dictionary, table([WORDS, NUMBERS], separator=" ")),
    "x.ltr": (check_letters, st.one_of(table([SPELT]), st.tuples(LETTERS, LETTERS).map(lambda rows: "\n".join(rows).encode()))),
    "labels.json": (check_labels_json, JSON),
}


NASTY = [b"\x00", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"9" * 30, *(bytes([x]) for x in b'\t\n\r-{]"')]


def mutants(content, seed, number):
    """`content`, and copies of it with a few bytes cut out, doubled, replaced or put in."""
    random = Random(seed)
    yield content
    for _ in range(number - 1):
        mutant = bytearray(content)
        for _ in range(random.randint(1, 3)):
            start = random.randint(0, len(mutant))
            stop = min(len(mutant), start + random.randint(0, 8))
            piece = random.choice([b"", mutant[start:stop] * 2, random.choice(NASTY), bytes([random.randrange(256)])])
            mutant[start:stop] = piece
        yield bytes(mutant)


def fuzz(name, folder, examples, copies=5):
    """How many files were read and refused: those that hypothesis makes, each with `copies` - 1 mutants of it.

    A parser that reads or refuses all of them is not being tested.
    """
    check, contents = PARSERS[name]
    path, counts = Path(folder) / name, {True: 0, False: 0}

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(contents, st.integers(0, 2**32))
    def run(original, seed):
        for content in mutants(original, seed, copies):
            path.write_bytes(content)
            try:
                check(path)
                counts[True] += 1
            except UserError as error:
                counts[False] += 1
                assert path.name in str(error), "the error names the file"
                str(error).encode("utf-8")

    run()
    assert min(counts.values()) > 0, counts
    return counts


@pytest.mark.parametrize("name", PARSERS)
def test_only_user_errors_come_out(tmp_path, name):
    fuzz(name, tmp_path, examples=60)


@pytest.mark.slow
@pytest.mark.parametrize("name", PARSERS)
def test_only_user_errors_come_out_of_100000_files(tmp_path, name):
    """15,000 files for each of the seven parsers."""
    counts = fuzz(name, tmp_path, examples=600, copies=25)
    print(f"{name}: {counts[True]} read, {counts[False]} refused")
    assert sum(counts.values()) >= 100_000 / len(PARSERS)


def damaged(content, cut, changes):
    """`content` cut short, with some bytes replaced; never as it was."""
    kept = bytearray(content[: int(cut * len(content))])
    for place, byte in changes:
        if kept:
            kept[int(place * (len(kept) - 1))] = byte
    return bytes(kept)


DAMAGE = (
    st.one_of(st.just(1.0), st.floats(0, 1)),
    st.lists(st.tuples(st.one_of(st.floats(0, 1), st.floats(0, 0.15)), st.integers(0, 255)), max_size=4),
)


@pytest.fixture
def labels(tmp_path):
    write_labels(tmp_path / "labels", write_manifest(tmp_path, seconds=(0.5, 0.9)) / "train.tsv")
    return tmp_path / "labels"


def fuzz_shards(folder, examples):
    """codes-*.npy and index-*.npy cut short or with other bytes: read whole, or refused; never outside the codebook."""
    files = {path: path.read_bytes() for path in folder.glob("*.npy")}

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(sorted(files)), *DAMAGE)
    def run(path, cut, changes):
        path.unlink()  # an earlier example may still be mapped
        path.write_bytes(damaged(files[path], cut, changes))
        try:
            store = LabelStore(folder)
            for row in range(2):
                codes = store.codes(row, 0, 10**6)
                assert codes.shape == (store.num_frames(row), 2) and ((0 <= codes) & (codes < 64)).all()
        except UserError as error:
            assert "codes-0-of-1.npy" in str(error)
        finally:
            path.unlink()
            path.write_bytes(files[path])

    run()


def test_damaged_shards_are_refused(labels):
    fuzz_shards(labels, 150)


@pytest.mark.parametrize("claim", [10**18, 10**12, 2**31])
@pytest.mark.parametrize("kind", ["codes", "index"])
def test_a_shard_that_claims_more_than_it_holds_is_refused_at_once(labels, kind, claim):
    path = labels / f"{kind}-0-of-1.npy"
    content = path.read_bytes()
    shape = str(np.load(path).shape).encode()
    claimed = shape.replace(shape.strip(b"(),").split(b",")[0], str(claim).encode(), 1)
    path.write_bytes(content.replace(shape, claimed, 1))
    with pytest.raises(UserError, match="the shard is damaged"):
        LabelStore(labels)


def fuzz_checkpoints(folder, examples):
    """Checkpoints cut short or with other bytes are read or refused; the pickle inside never runs anything."""
    write_birq_checkpoint(folder / "whole.pt")
    content, path = (folder / "whole.pt").read_bytes(), folder / "x.pt"

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(*DAMAGE)
    def run(cut, changes):
        path.write_bytes(damaged(content, cut, changes))
        try:
            assert isinstance(load_checkpoint(path), dict)
        except UserError as error:
            assert "x.pt" in str(error)

    run()


def test_damaged_checkpoints_are_refused(tmp_path):
    fuzz_checkpoints(tmp_path, 60)


@pytest.mark.slow
def test_damaged_shards_and_checkpoints_are_refused_5000_times(labels, tmp_path):
    fuzz_shards(labels, 4000)
    fuzz_checkpoints(tmp_path, 1000)


def test_a_spelling_that_would_overflow_the_stack_is_refused(tmp_path):
    """flashlight-text 0.0.7 ends with a segmentation fault on a word of 100,000 letters."""
    (tmp_path / "lexicon.txt").write_text("a a |\nw " + "a " * 100_000 + "|\n")
    with pytest.raises(UserError, match="lexicon.txt, line 2: 'w' has 100001 letters, more than 1000"):
        read_lexicon(tmp_path / "lexicon.txt", {"a": 4, "|": 5})


def test_names_in_transcripts_open_no_file(tmp_path, monkeypatch):
    """Keys are compared with names of audio, and nothing else: `..` and absolute ones lead nowhere."""
    (tmp_path / "x.txt").write_text("../../etc/passwd\ttext\n/etc/passwd\ttext\na\tb\n")
    opened, really_open = [], open
    monkeypatch.setattr("builtins.open", lambda path, *args, **kwargs: opened.append(path) or really_open(path, *args, **kwargs))
    monkeypatch.setattr(Path, "is_file", lambda path: opened.append(path) or True)
    Transcripts(tmp_path / "x.txt")
    assert set(opened) == {tmp_path / "x.txt"}
