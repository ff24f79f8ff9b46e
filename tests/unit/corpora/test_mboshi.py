import pytest

from fairseq_birq.corpora import mboshi
from fairseq_birq.corpora.helpers.lists import read_rows
from fairseq_birq.corpora.helpers.mboshi_alignments import read_limsi
from fairseq_birq.data.audio import read
from fairseq_birq.data.manifest import read_manifest
from fairseq_birq.errors import UserError
from tests.fixtures.corpus_trees import mboshi as mboshi_tree
from tests.fixtures.corpus_trees import mboshi_block


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mboshi")
    lines = mboshi.make(out=str(folder / "out"), **mboshi_tree(folder / "in"))
    return folder / "out", "\n".join(lines)


def lines(path):
    return path.read_text(encoding="utf-8").splitlines()


def test_each_set_holds_the_smaller_ones_sorted_by_path(made):
    out, report = made
    assert [len(read_manifest(out / f"{split}.tsv")) for split in ("pool", "pretrain", "train", "dev", "test")] == [6, 4, 2, 2, 2]
    for split in ("pool", "pretrain", "train", "dev", "test"):
        rows = lines(out / f"{split}.tsv")
        assert rows[0] == "." and rows[1:] == sorted(rows[1:])
        assert lines(out / f"{split}.spk") == [row.split("/")[0] for row in rows[1:]]
    assert "warning     pool: 6 utterances instead of 4490" in report


def test_letters_are_composed_and_single_spaced(made):
    out, _ = made
    assert set(lines(out / "pool.wrd")) == {"wa éléngε", "á obia"}
    assert "á | o b i a |" in lines(out / "dev.ltr")
    assert lines(out / "lm.txt")[0] != lines(out / "lm.txt")[1] and len(lines(out / "lm.txt")) == 2
    assert lines(out / "lexicon.txt") == ["obia\to b i a |", "wa\tw a |", "á\tá |", "éléngε\té l é n g ε |"]
    assert lines(out / "lexicon.lm.txt") == lines(out / "lexicon.txt")
    assert lines(out / "dict.ltr.txt")[0] == "| 8"


def test_letters_of_the_alignment_are_75_ms_earlier_and_in_lower_case(made):
    out, _ = made
    name = lines(out / "train.tsv")[2].split("\t")[0]
    header, *rows = lines(out / "train.phn")
    assert header == "utt_index\tpath\tstart_s\tend_s\tphone"
    assert rows[2:] == [f"1\t{name}\t0.041\t0.851\tSIL", f"1\t{name}\t0.851\t1.071\tω"]
    assert lines(out / "phones.txt") == ["SIL 4", "ω 4"]


def test_phones_of_limsi_are_one_character_and_words_are_numbered(made):
    out, _ = made
    name = lines(out / "dev.tsv")[1].split("\t")[0]
    assert lines(out / "dev.limsi.phn")[:5] == [
        "utt_index\tpath\tstart_s\tend_s\tphone\tword\tword_index",
        f"0\t{name}\t0.00\t0.49\tSIL\tSIL\t-1",
        f"0\t{name}\t0.49\t0.59\tê\té\t0",
        f"0\t{name}\t0.59\t0.62\tUNK\t<UNK>\t1",
        f"0\t{name}\t0.62\t1.33\tSIL\tSIL\t-1",
    ]
    assert lines(out / "phones.limsi.txt") == ["SIL 8", "UNK 4", "ê 4"] and not (out / "train.limsi.phn").exists()


def test_a_malformed_phone_is_named_with_its_line(tmp_path):
    (tmp_path / "x.seg").write_bytes(mboshi_block("a", ["word=b", "nonsense"]))
    with pytest.raises(UserError, match="x.seg, line 5: is not a phone"):
        read_limsi(tmp_path / "x.seg", ["a"])
    assert read_limsi(tmp_path / "x.seg", ["b"]) == {}


def test_samples_are_the_source_and_a_copy_is_not_made_twice(tmp_path):
    options = mboshi_tree(tmp_path / "in")
    mboshi.make(out=str(tmp_path / "out"), **options)
    row = next(row for row in read_rows("mboshi/utterances.tsv") if row["split"] == "dev")
    source = tmp_path / "in" / "full_corpus_newsplit" / "dev" / f"{row['original_name']}.wav"
    copy = tmp_path / "out" / f"{row['utt_id']}.flac"
    assert (read(str(copy), 16000)[0] == read(str(source), 16000)[0]).all()
    before = copy.stat().st_mtime_ns
    mboshi.make(out=str(tmp_path / "out"), **options)
    assert copy.stat().st_mtime_ns == before
    copy.write_bytes(copy.read_bytes()[:100])  # as a full disk leaves it
    mboshi.make(out=str(tmp_path / "out"), **options)
    assert (read(str(copy), 16000)[0] == read(str(source), 16000)[0]).all()


def test_a_file_that_is_shorter_than_its_header_says_is_taken_and_counted(tmp_path):
    options = mboshi_tree(tmp_path / "in")
    row = next(row for row in read_rows("mboshi/utterances.tsv") if row["split"] == "train")
    source = tmp_path / "in" / "full_corpus_newsplit" / "train" / f"{row['original_name']}.wav"
    source.write_bytes(source.read_bytes()[:-200])
    report = mboshi.make(out=str(tmp_path / "out"), **options)
    assert report[-1].startswith("note        1 files have fewer samples than their header says")
    assert f"{row['utt_id']}.flac\t{2 * 16000 - 100}" in lines(tmp_path / "out" / "pretrain.tsv")


def test_a_folder_that_is_no_clone_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="no folder full_corpus_newsplit/ in it; give a clone"):
        mboshi.make(str(tmp_path), str(tmp_path / "out"))
    (tmp_path / "full_corpus_newsplit").mkdir()
    with pytest.raises(UserError, match="no utterance is left"):
        mboshi.make(str(tmp_path), str(tmp_path / "out"))
