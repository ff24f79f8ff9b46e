"""birq-subwords: files that fine-tuning and decoding read, and sentences where they cannot be made."""

import random
import re
import runpy
import sys
from collections import Counter
from types import SimpleNamespace

import pytest

from fairseq_birq.cli.subwords import main
from fairseq_birq.data.transcripts import are_subwords, from_subwords, read_symbols, read_unit_scores
from fairseq_birq.errors import UserError
from fairseq_birq.tools.subwords import make_subwords

TEXTS = ["the cat sat on the mat", "the hat of the cat", "a rat sat on the hat", "that cat", "", "a bat at the mat"]


@pytest.fixture
def data(tmp_path):
    (tmp_path / "train.wrd").write_text("\n".join(TEXTS) + "\n")
    (tmp_path / "valid.ltr").write_text("t h e | b a t |\nz a p |\n")
    return tmp_path


@pytest.fixture
def sentencepiece():
    return pytest.importorskip("sentencepiece", reason="the extra [subwords] is not installed")


def read(path):
    return path.read_text(encoding="utf-8").splitlines()


def test_files_of_units_say_what_the_transcripts_say(data, sentencepiece):
    lines = make_subwords(data, size=18)
    units = [line.rsplit(" ", 1) for line in read(data / "dict.spm.txt")]
    names = [unit for unit, _ in units]
    assert len(units) == 18 and are_subwords(names) and "▁cat" in names
    rows = [line.split() for line in read(data / "train.spm")]
    assert [from_subwords(row) for row in rows] == TEXTS
    assert max(map(len, rows)) < max(map(len, TEXTS)) and set(sum(rows, [])) <= set(names)
    assert {unit: int(count) for unit, count in units if count != "0"} == Counter(sum(rows, []))
    processor = sentencepiece.SentencePieceProcessor(model_file=str(data / "spm.model"))
    assert rows == [processor.encode(text, out_type=str) for text in TEXTS]
    assert read(data / "valid.spm") == [" ".join(processor.encode("the bat", out_type=str)), "▁ z a p"]
    assert lines[0].startswith("train") and "1 lines are empty" in lines[0] and "without a unit" not in lines[0]
    assert lines[1].startswith("valid") and "'z' (1 times), 'p' (1 times)" in lines[1]
    lexicon = dict(line.split("\t") for line in read(data / "lexicon.spm.txt"))
    assert lexicon.keys() == {word for text in TEXTS for word in text.split()}
    assert lexicon["mat"].split() == processor.encode("mat", out_type=str)
    scores = read_unit_scores(data / "spm.vocab", read_symbols(data / "dict.spm.txt")[4:])
    assert scores == pytest.approx([processor.get_score(index) for index in range(1, 19)], rel=1e-6)


def test_the_exported_tokenizer_spells_as_sentencepiece_does(data, sentencepiece, monkeypatch, repository):
    """Its code alone, on a base class that does nothing: transformers need not be there."""
    base = type("Base", (), {"__init__": lambda self, *arguments, **keywords: None})
    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(Wav2Vec2CTCTokenizer=base))
    code = repository / "fairseq_birq" / "tools" / "export" / "remote_code" / "tokenization_birq.py"
    make_subwords(data, size=18)
    units = read_symbols(data / "dict.spm.txt")[4:]
    scores = dict(zip(units, read_unit_scores(data / "spm.vocab", units)))
    tokenizer = runpy.run_path(str(code))["BirqSubwordTokenizer"]("vocab.json", unit_scores=scores)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(data / "spm.model"))
    draw = random.Random(1)
    texts = ["".join(draw.choices("thecatsonmr b", k=20)) for _ in range(200)]
    spelt = [tokenizer.tokenize(text) for text in texts]
    assert spelt == [processor.encode(text, out_type=str) for text in texts] and max(map(len, spelt)) > min(map(len, spelt))
    assert tokenizer.tokenize("cat zat") == ["▁cat", "▁", "z", "at"]


def test_a_model_serves_another_folder_and_the_same_one_again(data, sentencepiece, tmp_path):
    make_subwords(data, size=18)
    before = {path.name: path.read_bytes() for path in data.iterdir()}
    (tmp_path / "words.txt").write_text("bath tab\nzap\n")
    make_subwords(data, model=data / "spm.model", words=[tmp_path / "words.txt"])
    changed = {name for name, content in before.items() if (data / name).read_bytes() != content}
    assert changed == {"lexicon.spm.txt"}
    new = {line.split("\t")[0] for line in read(data / "lexicon.spm.txt")} - {word for text in TEXTS for word in text.split()}
    assert new == {"bath", "tab"}  # no unit for z and p
    other = tmp_path / "other"
    other.mkdir()
    (other / "test.wrd").write_text("that bat\n")
    make_subwords(other, model=data / "spm.model", train="test", name="units")
    assert from_subwords(read(other / "test.units")[0].split()) == "that bat"
    assert [line.split()[0] for line in read(other / "dict.units.txt")] == [
        line.split()[0] for line in read(data / "dict.spm.txt")
    ]


@pytest.mark.parametrize(
    "options, said",
    [
        (["--size", "5000"], "--size 5000 is more than the transcripts .*train allow: they give at most [0-9]+ units"),
        (["--size", "3"], "--size 3 is less than the transcripts .*train need: their characters alone are [0-9]+ units"),
        (["--size", "0"], "--size must be at least 1, but is 0"),
        (["--size", "20", "--train", "dev"], "dev.wrd: no such transcripts; `birq-manifest` writes them"),
        (["--size", "20", "--name", "ltr"], "--name ltr: must be letters and digits, and no suffix of other files"),
        (["--size", "20", "--name", "../x"], "--name ../x: must be"),
        (["--size", "20", "--words", "nowhere.txt"], "nowhere.txt: no such text"),
        (["--model", "nowhere.model"], "nowhere.model: no such model; `--size` makes one"),
        (["--model", "train.wrd"], "train.wrd: is no model of SentencePiece"),
    ],
)
def test_what_cannot_be_made_is_one_sentence(data, sentencepiece, capfd, monkeypatch, options, said):
    monkeypatch.chdir(data)
    assert main([str(data), *options]) == 2
    output = capfd.readouterr()
    assert output.err.count("\n") == 1 and output.out == ""
    assert re.match(f"error: .*{said}", output.err), output.err
    assert {path.name for path in data.iterdir()} == {"train.wrd", "valid.ltr"}


def test_the_most_and_the_fewest_units_that_a_message_names_can_be_made(data, sentencepiece):
    for wrong in (5000, 3):
        with pytest.raises(UserError) as refused:
            make_subwords(data, size=wrong)
        number = int(str(refused.value).split()[-2])
        assert make_subwords(data, size=number, name=f"of{number}")
        assert len(read(data / f"dict.of{number}.txt")) == number


def test_models_and_dictionaries_that_do_not_belong_together(data, sentencepiece):
    make_subwords(data, size=18)
    with pytest.raises(UserError, match="spm.model: is there already; go on with it by `--model"):
        make_subwords(data, size=16)
    make_subwords(data, size=16, name="small")
    with pytest.raises(UserError, match="dict.spm.txt has other units than .*small.model: they do not belong together"):
        make_subwords(data, model=data / "small.model")
    with pytest.raises(UserError, match="spm.vocab has other units than the dictionary beside it .18 and 16."):
        read_unit_scores(data / "spm.vocab", read_symbols(data / "dict.small.txt")[4:])


@pytest.mark.parametrize(
    "content, said",
    [("\n \n", "its transcripts have no words"), ("a | b\n", "line 1: has '▁' or '|'"), ("a ▁b\n", "line 1: has")],
)
def test_transcripts_without_words_and_with_marks(data, sentencepiece, content, said):
    (data / "train.wrd").write_text(content)
    with pytest.raises(UserError) as refused:
        make_subwords(data, size=10)
    assert said in str(refused.value)


def test_without_sentencepiece_it_says_how_to_install_it(data, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    assert main([str(data), "--size", "20"]) == 2
    assert "error: subword units need SentencePiece: pip install 'fairseq_birq[subwords]'" in capsys.readouterr().err
