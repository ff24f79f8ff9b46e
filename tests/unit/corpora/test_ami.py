import pytest

from fairseq_birq.corpora import ami
from fairseq_birq.corpora.helpers.ami_text import Token, normalise, split_run
from fairseq_birq.data.manifest import read_manifest
from fairseq_birq.errors import UserError
from tests.fixtures.corpus_trees import AMI_TEXTS, AMI_WORDS, ami_words, ami_xml
from tests.fixtures.corpus_trees import ami as ami_tree


def tokens(text, step_s=0.5):
    """A token per word or mark; words last `step_s`, marks no time."""
    found, now = [], 0.0
    for word in text.split():
        is_mark = word in ".,?!:"
        found.append(Token(word, now, now if is_mark else now + step_s, is_mark))
        now += 0 if is_mark else step_s
    return found


def rows(out, split):
    manifest = read_manifest(out / f"{split}.tsv")
    texts = (out / f"{split}.wrd").read_text().splitlines()
    return list(zip(map(manifest.name, range(len(manifest))), texts))


def test_every_speaker_comes_from_the_own_headset_and_all_from_the_far_microphone(tmp_path):
    ami.make(out=str(tmp_path / "out"), **ami_tree(tmp_path / "in"))
    expected = []
    for microphone, agents in [("Headset-0", [0.0]), ("Headset-1", [0.4]), ("Array1-01", [0.0, 0.4])]:
        for later in agents:
            for start_s, end_s, text in AMI_TEXTS:
                begin, end = round((start_s + later) * 16000), round((end_s + later) * 16000)
                path = f"ES2002a/audio/ES2002a.{microphone}.wav:{begin}:{end - begin}"
                expected.append((path, text))
    assert sorted(rows(tmp_path / "out", "train")) == sorted(expected)
    assert [len(rows(tmp_path / "out", split)) for split in ("valid", "test_ihm", "test_sdm")] == [8, 4, 4]
    assert all("ES2004c.Headset" in path for path, _ in rows(tmp_path / "out", "test_ihm"))


def test_one_microphone_has_sizes_to_compare(tmp_path):
    report = "\n".join(ami.make(out=str(tmp_path / "out"), **{**ami_tree(tmp_path / "in"), "mic": "ihm"}))
    assert "warning     train: 4 utterances instead of 108502 (edinburghcstr/ami)" in report
    assert "warning     ihm: 6 files instead of 687" in report and not (tmp_path / "out" / "test_sdm.tsv").exists()


def test_long_parts_are_split_as_kaldi_does():
    """Texts and times are what ami_split_segments.pl of Kaldi prints for the same words."""
    words = " ".join(["a"] * 14 + [","] + ["b"] * 10 + [","] + ["c"] * 9 + ["."] + ["so", ",", "d", "?"] + ["I'm", "un-done"])
    assert list(split_run(tokens(words))) == [
        (0.0, 7.0, " ".join(["A"] * 14)),
        (7.0, 16.5, " ".join(["B"] * 10 + ["C"] * 9)),
        (16.5, 17.5, "SO D"),
        (17.5, 18.5, "I'M UN DONE"),
    ]
    assert list(split_run(tokens(" ".join(["a"] * 40)))) == [(0.0, 20.0, " ".join(["A"] * 40))]  # no comma


def test_sounds_count_for_the_time_but_not_for_the_text():
    run = [Token(None, 0.5, 1.0, False), *tokens("hm"), Token(None, 2.0, 3.0, False), Token("well", None, None, False)]
    assert list(split_run(run)) == [(0.0, 3.0, "HM WELL")]
    assert list(split_run([Token(None, 0.5, 1.0, False)])) == [] == list(split_run([Token("a", None, None, False)]))


def test_spelling():
    assert normalise("Mm-hmm uh-huh anti-trust X_M_L I'm yes,no -") == "MM-HMM UH-HUH ANTI TRUST X. M. L I'M YES NO"


def test_a_meeting_of_no_list_is_counted(tmp_path):
    report = "\n".join(ami.make(out=str(tmp_path / "out"), **ami_tree(tmp_path / "in", ("ES2002a", "ES2011b", "IS1005d"))))
    assert "left out    3, meeting of no set; first: IS1005d/audio/IS1005d.Headset-0.wav" in report
    assert ami.split_of_meetings()["IB4005"] == "train" and ami.split_of_meetings()["ES2011b"] == "valid"


def test_what_does_not_fit_together_is_counted(tmp_path):
    options = ami_tree(tmp_path / "in")
    notes = tmp_path / "in" / "ami_public_manual_1.6.2"
    ami_words(notes, "ES2002a", "Z", AMI_WORDS, [(0, 1)])
    ami_words(notes, "ES2002a", "A", AMI_WORDS, [(0, 7), (8, 9)])
    for path in (tmp_path / "in" / "ES2011b" / "audio").iterdir():
        path.unlink()
    report = "\n".join(ami.make(out=str(tmp_path / "out"), **options))
    assert "1, annotation of a speaker that meetings.xml lacks; first: ES2002a.Z.segments.xml" in report
    assert "1, reference to a word that is not there; first: ES2002a.A.segments.xml: ES2002a.A.words.xml#id(ES2002" in report
    assert "1, meeting without audio of ihm; first: ES2011b" in report


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("words/ES2002a.A.words.xml", "<a>", "is not XML"),
        ("words/ES2002a.A.words.xml", ami_xml("words", '<w starttime="x">a</w>'), "starttime of None must be a number"),
        ("words/ES2002a.A.words.xml", None, "no such file of AMI's annotations"),
        ("corpusResources/meetings.xml", None, "name its folder with --annotations"),
    ],
)
def test_malformed_annotations_are_named(tmp_path, name, content, message):
    options = ami_tree(tmp_path / "in")
    path = tmp_path / "in" / "ami_public_manual_1.6.2" / name
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(UserError, match=message):
        ami.make(out=str(tmp_path / "out"), **options)
    assert not (tmp_path / "out").exists()
