"""birq-probe from the command line: one table, results that can be read again, mistakes as one line."""

import json
import re
import shlex

import pytest
import torch

from fairseq_birq.cli.probe import main, parser
from fairseq_birq.tools.probes import PROBES
from fairseq_birq.tools.probes.runner import new_encoder, table
from tests.fixtures.checkpoints import write_birq_checkpoint
from tests.fixtures.manifests import write_manifest

SPLITS = ("train", "dev", "test")


@pytest.fixture
def given(tmp_path):
    """Two checkpoints, and a corpus with letters, speakers and keywords; checkpoints and folder."""
    for name in "ab":
        torch.manual_seed(ord(name))
        write_birq_checkpoint(tmp_path / f"{name}.pt")
    data = tmp_path / "corpus"
    for split in SPLITS:
        write_manifest(data, split, seconds=[0.5 + 0.1 * row for row in range(6)], texts=["ab a", "b a", "a"] * 2)
        (data / f"{split}.spk").write_text("anna\nbert\n" * 3)
        (data / f"{split}.word").write_text("yes\nno\nyes\nno\nyes\nno\n")
    return [str(tmp_path / "a.pt"), str(tmp_path / "b.pt"), str(data)]


def test_all_makes_one_table_and_says_what_is_left_out(given, tmp_path, capsys):
    a, b, data = given
    options = ["--labels", "ks=word", "--updates", "3", "--size", "8", "--batch-size", "4", "--out", str(tmp_path / "out")]
    assert main(["all", f"first={a}", b, data, "--untrained", *options]) == 0
    out = capsys.readouterr().out.splitlines()
    tasks = ("asr cer ↓", "sid accuracy ↑", "sv eer ↓", "ks accuracy ↑")
    assert out[0] == f"| encoder | {' | '.join(f'corpus: {task}' for task in tasks)} |"
    assert [line.split(" |")[0] for line in out[2:6]] == [
        "| first", f"| {tmp_path.name}/b", "| untrained", "| without listening",
    ]  # fmt: skip
    assert out[5] == "| without listening | 100.0 | 50.0 | 50.0 | 50.0 |"
    absent = (("phone", "phn"), ("ic", "int"), ("er", "emo"))
    assert out[6:] == [f"left out: {task}, no train.{suffix} dev.{suffix} test.{suffix}" for task, suffix in absent]
    assert (tmp_path / "out" / "table.md").read_text().splitlines() == out[:6]
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [(result["encoder"], result["task"]) for result in results[:4]] == [("first", t) for t in ("asr", "sid", "sv", "ks")]
    for result in results:
        assert sum(result["layer_weights"]) == pytest.approx(1, abs=1e-5) and len(result["layer_weights"]) == 3
        assert result["utterances"] == [6, 6, 6] and result["settings"]["updates"] == 3 and result["settings"]["seed"] == 1
        assert result["stopped_at"] in (1, 2, 3) and set(result["test"]) >= {result["measure"]}
    assert results[0]["too_long_for_ctc"] == 0 and results[0]["classes"] == 3


def test_results_are_added_to_and_replaced(given, tmp_path, capsys):
    a, b, data = given
    rest = [data, "--updates", "2", "--out", str(tmp_path / "out")]
    for task, checkpoint, options in (("sid", a, []), ("sv", a, []), ("sid", b, []), ("sid", a, ["--seed", "2"])):
        assert main([task, checkpoint, *rest, *options]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    names = [f"{tmp_path.name}/{name}" for name in "ab"]
    assert [(result["encoder"], result["task"], result["settings"]["seed"]) for result in results] == [
        (names[0], "sv", 1), (names[1], "sid", 1), (names[0], "sid", 2),
    ]  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "corpus: sid accuracy ↑: rows were made with different settings, see results.json"
    assert table(results) == lines[-6:] and f"| {names[1]} |  | " in lines[-4] + lines[-3]


def test_the_untrained_encoder_is_of_the_seed_and_of_no_checkpoint(given):
    first, again, other = (new_encoder(given[0], seed).state_dict() for seed in (1, 1, 2))
    key = next(name for name in first if name.endswith("weight") and first[name].dim() == 2)
    trained = torch.load(given[0], weights_only=True)["model"][f"speech_encoder.{key}"]
    assert torch.equal(first[key], again[key]) and not torch.equal(first[key], other[key])
    assert not torch.equal(first[key], trained)


@pytest.mark.parametrize(
    "arguments, part",
    [
        (["er", "a", "data"], "has no train.emo; `--labels er=SUFFIX`"),
        (["sid", "a", "data", "--splits", "train", "dev", "absent"], "absent.tsv: no such manifest"),
        (["sid", "a", "data", "--splits", "train", "dev", "dev"], "three different splits"),
        (["sid", "a", "a", "data"], "two checkpoints are called"),
        (["sid", "absent", "data"], "checkpoint absent does not exist"),
        (["sid", "a", "data", "--lr", "0"], "--lr must be > 0, but is 0.0"),
        (["all", "a", "data", "--labels", "x=spk"], "there is no probe 'x'"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(given, tmp_path, capsys, arguments, part):
    places = {"a": given[0], "data": given[2]}
    assert main([*(places.get(argument, argument) for argument in arguments), "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1].startswith("error: ") and part in captured.err and not captured.out
    assert not (tmp_path / "out").exists()


def test_a_folder_without_labels_and_a_label_file_of_another_length_are_named(given, tmp_path, capsys):
    for path in (tmp_path / "corpus").glob("*.*"):
        if path.suffix not in (".tsv", ".spk"):
            path.unlink()
    (tmp_path / "corpus" / "dev.spk").write_text("anna\n")
    assert main(["all", given[0], given[2], "--updates", "1"]) == 2
    assert "dev.spk: has 1 lines" in capsys.readouterr().err
    (tmp_path / "corpus" / "dev.spk").unlink()
    assert main(["all", given[0], given[2]]) == 2
    assert "label files for none of asr, phone" in capsys.readouterr().err


def test_the_pages_commands_and_tables_name_what_there_is(repository):
    page = (repository / "examples" / "probes" / "README.md").read_text()
    commands = re.findall(r"^ *(birq-probe (?:.*\\\n)*.*)$", page + (repository / "README.md").read_text(), re.MULTILINE)
    assert len(commands) >= 4
    for command in commands:
        assert parser().parse_args(shlex.split(command.replace("\\\n", " "))[1:]).task in (*PROBES, "all")
    rows = dict(re.findall(r"^\| `(\w+)` \|.*?`<split>\.(\w+)`", page, re.MULTILINE))
    assert rows == {task: kind.suffix for task, kind in PROBES.items()}
    options = {option for action in parser()._actions for option in action.option_strings}
    assert set(re.findall(r"`(--[a-z-]+)", page)) <= options


def test_long_work_whose_output_is_a_file_says_where_it_is(given, capsys, monkeypatch):
    monkeypatch.setattr("fairseq_birq.progress.LINE_SECONDS", 0.0)  # every step takes long
    assert main(["asr", given[0], given[2], "--updates", "3"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" in ")[0] for line in lines if line.startswith("asr")] == [f"asr: {n} of 3 updates" for n in (1, 2, 3, 3)]
    assert sum(line.startswith("states of train.tsv: 6 of 6 utterances") for line in lines) == 2
