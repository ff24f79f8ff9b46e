import pytest

from fairseq_birq.corpora.helpers.collection import Collection, Utterance
from fairseq_birq.corpora.helpers.segments import add_segment
from fairseq_birq.corpora.helpers.writing import Expected, compare, write
from fairseq_birq.data.audio import AudioInfo
from fairseq_birq.errors import UserError


def reasons(collection):
    return {reason: len(names) for reason, names in collection.left_out.items()}


def test_what_does_not_fit_is_counted_by_reason():
    collection = Collection(min_seconds=1, max_seconds=10)
    for path, seconds, text in [
        ("good", 2, " two\twords\n"), ("short", 0.5, "a"), ("long", 11, "a"), ("t\tb", 2, "a"), ("none", 2, "  "),
        ("bar", 2, "a|b"), ("half", 2, "a \ud800"), ("good", 2, "a"),
    ]:  # fmt: skip
        collection.add("train", Utterance(path, int(seconds * 100), 100, text))
    assert collection.splits == {"train": [Utterance("good", 200, 100, "two words")]}
    assert reasons(collection) == {
        "shorter than 1 s": 1,
        "longer than 10 s": 1,
        "tab or line break in the path": 1,
        "empty transcript": 1,
        "transcript with `|`, which stands for the end of a word": 1,
        "transcript with half a character": 1,
        "the same audio a second time": 1,
    }


def test_audio_of_another_split_is_refused():
    collection = Collection()
    collection.add("train", Utterance("a:0:100", 100, 100))
    with pytest.raises(UserError, match="a:0:100: is in train and in dev"):
        collection.add("dev", Utterance("a:0:100", 100, 100))


def test_groups_are_held_out_whole():
    collection = Collection()
    for row in range(100):
        collection.add("train", Utterance(f"speaker{row % 10}/{row}", 100, 100))
    collection.hold_out(0.2, 1, group=lambda path: path.split("/")[0])
    groups = [{item.path.split("/")[0] for item in collection.splits[split]} for split in ("train", "valid")]
    assert [len(group) for group in groups] == [8, 2] and not groups[0] & groups[1]
    with pytest.raises(UserError, match="a split `valid` already"):
        collection.hold_out(0.2, 1, group=str)


@pytest.mark.parametrize(
    "start_s, end_s, expected",
    [
        (0.5, 1.25, "a.wav:50:75"),
        (0.0, None, "a.wav"),
        (9.0, 10.4, "a.wav:900:100"),  # 0.4 s past the end
        (0.006, 0.016, "a.wav:1:1"),
        (9.0, 10.6, "segment outside its file"),
        (10.0, None, "segment outside its file"),
        (2.0, 2.0, "segment that ends before it begins"),
        (-0.1, 2.0, "segment that ends before it begins"),
        (float("nan"), 2.0, "segment that ends before it begins"),
        (1.0, float("inf"), "segment that ends before it begins"),
    ],
)
def test_segments_are_rounded_to_samples_and_kept_inside_their_file(start_s, end_s, expected):
    collection = Collection()
    add_segment(collection, "train", "a.wav", AudioInfo(num_samples=1000, sample_rate=100, channels=1), start_s, end_s)
    paths = [utterance.path for utterance in collection.utterances]
    assert paths + list(collection.left_out) == [expected]


def test_sizes_are_compared_with_the_published_ones():
    real = Expected("paper", utterances=28539, hours=100.6)
    assert compare("train", 28539, 100.55, real) == "complete    train: has the published size (paper)"
    assert compare("train", 28538, 100.6, real) == "warning     train: 28538 utterances instead of 28539 (paper)"
    assert compare("train", 28539, 99.0, real) == "warning     train: 99.0 h instead of 100.6 h (paper)"
    assert compare("dev", 1, 5.35, Expected("paper", hours=5.4)).startswith("complete")


def test_an_old_split_that_is_not_written_again_is_in_the_way(tmp_path):
    collection = Collection()
    collection.add("train", Utterance("a", 100, 100))
    (tmp_path / "valid.tsv").write_text("")
    with pytest.raises(UserError, match="valid.tsv: is of an earlier run.*remove it"):
        write(collection, str(tmp_path), "/root")
    assert not (tmp_path / "train.tsv").exists()


@pytest.mark.parametrize(
    "written, taken",
    [
        ("cafe\u0301", "caf\u00e9"),  # an accent of its own
        ("caf\u00e9", "caf\u00e9"),
        ("one\u200btwo", "one two"),
        ("\ufeffco\u00adop\u2060", "coop"),
        ("\u06a9\u200c\u06a9", "\u06a9\u200c\u06a9"),  # a joiner changes the letters beside it
    ],
)
def test_a_letter_has_one_form_and_what_nobody_sees_is_no_letter(written, taken):
    collection = Collection()
    collection.add("train", Utterance("a.wav", 16000, 16000, written))
    assert collection.utterances[0].text == taken and collection.changed_texts == (written != taken)
    assert any("1 had invisible characters" in line for line in collection.lines()) == (written != taken)
