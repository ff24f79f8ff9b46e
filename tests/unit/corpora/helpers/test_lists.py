"""The committed split lists: their sizes, and that nothing is in two sets."""

from collections import Counter

import pytest

from fairseq_birq.corpora import ami
from fairseq_birq.corpora.helpers import lists
from fairseq_birq.corpora.helpers.lists import read_list, read_rows
from fairseq_birq.errors import UserError


def test_mboshi_has_the_utterances_of_the_data_pack():
    rows = read_rows("mboshi/utterances.tsv")
    assert Counter(row["split"] for row in rows) == {"pool": 3059, "pretrain": 1045, "train": 386, "dev": 116, "test": 235}
    assert len({row["utt_id"] for row in rows}) == len({row["original_name"] for row in rows}) == len(rows)
    assert all(row["original_name"].split("_")[0] == row["utt_id"].split("/")[0] for row in rows)


def test_fsdd_has_its_own_test_set_and_a_draw_of_the_rest():
    names = {split: [name.split("_") for name in read_list(f"fsdd/{split}.txt")] for split in ("train", "dev", "test")}
    assert {int(take) for _, _, take in names["test"]} == set(range(5))
    assert {int(take) for split in ("train", "dev") for _, _, take in names[split]} <= set(range(5, 50))
    for split, takes in [("train", 8), ("dev", 2), ("test", 5)]:
        counts = Counter((digit, speaker) for digit, speaker, _ in names[split])
        assert len(counts) == 60 and set(counts.values()) == {takes}
    assert not {tuple(name) for name in names["train"]} & {tuple(name) for name in names["dev"]}


def test_ami_has_the_meetings_of_its_partition():
    meetings = {split: read_list(f"ami/{split}.txt") for split in ("train", "dev", "eval")}
    assert [len(names) for names in meetings.values()] == [137, 18, 16]
    everything = [name for names in meetings.values() for name in names]
    assert len(set(everything)) == 171 and 4 * 171 + 3 == ami.FILES["ihm"]  # three meetings have a fifth speaker
    sessions = [{name[:6] for name in names} for names in meetings.values()]
    assert sum(map(len, sessions)) == len(set.union(*sessions)) == 59


def test_an_installed_package_has_its_own_copy(tmp_path, monkeypatch):
    monkeypatch.setattr(lists, "IN_CHECKOUT", tmp_path / "absent")
    with pytest.raises(UserError, match="ami/dev.txt: no such list"):
        read_list("ami/dev.txt")
    monkeypatch.setattr(lists, "IN_WHEEL", tmp_path)
    (tmp_path / "ami").mkdir()
    (tmp_path / "ami" / "dev.txt").write_text("a\nb\n")
    assert read_list("ami/dev.txt") == ["a", "b"]
