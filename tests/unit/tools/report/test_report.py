"""The report of a run made by hand: what is in it, what is not, and nothing of it but text."""

import json
import re
from html.parser import HTMLParser

import pytest
import torch

from fairseq_birq.cli.report import main
from fairseq_birq.errors import UserError
from fairseq_birq.tools.report import reference
from fairseq_birq.tools.report.page import write
from fairseq_birq.tools.report.run import read_run
from fairseq_birq.tools.report.training import differences_section, health_section
from tests.fixtures.checkpoints import write_birq_checkpoint
from tests.fixtures.manifests import write_two_sounds

HOSTILE = "</pre><script>alert(1)</script>&amp;$\\foo$ ${task.x} \udc80"
GENERATED = "T-0\tone two three\nD-0\t-1.0\tone too three four\nT-1\t<b>small</b> house\nD-1\t-2.0\thouse\n"


def write_run(folder, updates=(100, 200), sources=("raw_input",), **measures):
    """A folder with a log of made-up but falling losses; every source's perplexity is 90 but for `measures`."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["[2025-01-02 03:04:05,678][fairseq_cli.train][INFO] - num. shared model params: 1,234 (num. trained: 1,234)"]
    for update in updates:
        values = {"loss": 1000 / update, "num_updates": update}
        for source in sources:
            healthy = {"perplexity": 90.0, "accuracy": 0.3, "top_share": 0.05, "used_share": 0.9, **measures}
            values.update({f"{name}_{source}": value for name, value in healthy.items()})
        lines.append(json.dumps({"epoch": 1, **{name: str(value) for name, value in values.items()}}))
    lines.append(json.dumps({"valid_loss": "4.5", "valid_num_updates": str(updates[-1])}))
    (folder / "log.json").write_text("\n".join(lines) + "\n", errors="surrogateescape")
    return folder


def write_finetuning(folder):
    folder.mkdir()
    for_update = [{"valid_wer": "80.0", "valid_cer": "40.0", "valid_loss": "2", "valid_num_updates": str(n)} for n in (1, 2)]
    (folder / "train.log").write_text("\n".join(map(json.dumps, [{"loss": "3", "num_updates": "2"}, *for_update])))
    return folder


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A run with a checkpoint of a tiny model, and a corpus of two sounds with its alignment."""
    folder = tmp_path_factory.mktemp("report")
    run = write_run(folder / "run")
    write_birq_checkpoint(run / "checkpoint_last.pt")
    return run, write_two_sounds(folder / "corpus", utterances=3)


class Page(HTMLParser):
    """Tags, attributes and text as a browser would take them."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.texts, self.addresses, self.ids = [], [], [], []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.text = re.sub(r"\s+", " ", " ".join(self.texts))

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.ids += [value for key, value in attributes if key == "id"]
        self.addresses += [value for key, value in attributes if key in ("src", "href")]

    def handle_data(self, data):
        self.texts.append(data)


def test_a_run_with_everything(pretrained, tmp_path):
    run, corpus = pretrained
    (tmp_path / "generate.txt").write_text(GENERATED)
    result = {"encoder": "ours", "data": "x/fsdd", "task": "ks", "measure": "accuracy", "test": {"accuracy": 42.0},
              "dev": {"accuracy": 41.0}, "chance": 10.0, "layer_weights": [0.2, 0.8]}  # fmt: skip
    (tmp_path / "results.json").write_text(json.dumps([result]))
    options = ["--manifest", f"{corpus}/train.tsv", "--alignment", f"{corpus}/train.phn", "--out", f"{tmp_path}/r.html"]
    options += ["--probes", f"{tmp_path}/results.json", "--generate", f"{tmp_path}/generate.txt"]
    options += ["--reference", f"{run}/log.json"]
    assert main([str(run), *options]) == 0
    page = Page(tmp_path / "r.html")
    assert page.ids == ["glance", "curves", "labels", "utterance", "probes", "decodings", "settings", "environment"]
    assert {address.split(",")[0] for address in page.addresses if not address.startswith("#")} == {"data:image/png;base64"}
    assert "script" not in page.tags and "link" not in page.tags and page.tags.count("img") == 4 + 1 + 1 + 1
    for said in ("BEST-RQ", "200", "1,234", "PNMI", "42.0", "codebook_size: 16", "✓ healthy"):
        assert said in page.text, said
    assert "missing" not in re.findall(r'class="(\w+)"', page.source)


def test_the_same_inputs_give_the_same_bytes(pretrained, tmp_path):
    pages = [write(pretrained[0], out=tmp_path / f"{number}.html").read_bytes() for number in range(2)]
    assert pages[0] == pages[1]


def test_a_missing_part_names_its_option(tmp_path):
    page = Page(write(write_run(tmp_path / "run", sources=("a_new_one",))))
    for option in ("--reference LOG", "--probes results.json", "--generate LOG", "RUN_DIR"):
        assert option in page.text
    assert "no pre-training checkpoint" not in page.text
    write_birq_checkpoint(tmp_path / "run" / "checkpoint_best.pt")
    page = Page(write(tmp_path / "run"))
    assert "--manifest FOLDER" in page.text and "from checkpoint_best.pt" in page.text


def test_a_hostile_run_stays_text(tmp_path):
    run = write_run(tmp_path / "run <i>", sources=("raw_<u>input$x$",))
    settings = {"model": {"_name": "birq", "quantizer": {HOSTILE: HOSTILE}}, "task": {"data": HOSTILE}}
    torch.save({"cfg": settings, "model": {}}, run / "checkpoint_last.pt")
    generated = tmp_path / "generate.txt"
    generated.write_text("T-<i>\t<script>x</script>\nD-<i>\t0\t<img src=x>\n")
    page = Page(write(run, out=tmp_path / "r.html", generate=generated))
    assert not {"script", "i", "u", "b"} & set(page.tags)
    assert "<script>alert(1)</script>" in page.text and "<img" in page.text and "raw_<u>input$x$" in page.text


@pytest.mark.parametrize(
    "measures, verdict",
    [
        ({}, "✓ healthy"),
        ({"perplexity": 3.0}, "⚠ codes collapse"),
        ({"top_share": 0.6, "accuracy": 0.9}, "⚠ one code dominates"),
        ({"accuracy": 0.06}, "⚠ predicts little more"),
    ],
)
def test_verdicts(tmp_path, measures, verdict):
    log = read_run(write_run(tmp_path, **measures)).log
    assert verdict in "".join(health_section(log, {}).itertext())
    assert "⚠ codes collapse" in "".join(health_section(log, {"criterion": {"collapse_min_perplexity": 100}}).itertext())


def test_the_reference_is_drawn_and_compared(tmp_path):
    other = write_run(tmp_path / "other", updates=(100, 300), perplexity=200.0)
    run = write_run(tmp_path / "run")
    page = Page(write(run, references=[other / "log.json"]))
    cells = re.findall("<th scope=.row.>(.*?)</th>" + 3 * "<td>(.*?)</td>", page.source)
    rows = {name: values for name, *values in cells}
    assert rows["code perplexity, raw_input"] == ["↓ below", "90", "200"]
    assert rows["raw_input: accuracy"] == ["near", "0.3", "0.3"]
    assert rows["pre-training loss, training"] == ["↓ below", "5", "6.667"]
    alone = Page(write(run, references=[run / "log.json"]))
    assert len(alone.addresses) == len(page.addresses) and alone.addresses[-3:] != page.addresses[-3:]


def test_references_of_ours_are_found_by_target_sources_and_name_no_machine(repository):
    for path in sorted(reference.FOLDER.glob("*.json")):
        known = reference.read(path)
        assert reference.choose(known.logs[0]).sources == known.sources
        assert max(known.logs[0]["train_inner"]) >= 1000 and len(known.logs) >= 1
        assert not re.search(r"/(work|tmp|home|root)\b", path.read_text())
    assert list(reference.FOLDER.glob("*.json"))


def test_layers_of_a_source_are_no_sources_of_their_own(tmp_path):
    log = read_run(write_run(tmp_path, sources=("snapshot", "snapshot_layer2", "own_layer"))).log
    assert reference.main_sources(log) == ["own_layer", "snapshot"]


def test_a_reference_of_runs_comes_back_and_refuses_other_recipes(tmp_path):
    runs = [read_run(write_run(tmp_path / name)) for name in "ab"]
    for run, seed in zip(runs, (1, 2)):
        run.settings = {"model": {"seed": seed, "encoder": {"dim": 8}}, "optimization": {"lr": [0.1]}}
    reference.write(tmp_path / "kept.json", "ours", "made up", runs)
    kept = reference.read(tmp_path / "kept.json")
    assert kept.logs[1]["train_inner"][200]["perplexity_raw_input"] == 90.0 and kept.logs[0]["valid"] == {200: {"loss": 4.5}}
    assert kept.settings == {"model.encoder.dim": 8, "optimization.lr": [0.1], "dataset.max_tokens": None}
    runs[1].settings["model"]["encoder"]["dim"] = 16
    with pytest.raises(UserError, match=r"another recipe.*model\.encoder\.dim"):
        reference.write(tmp_path / "kept.json", "ours", "made up", runs)


def test_settings_other_than_the_reference_s_are_listed():
    ours = reference.Reference("ours", "made up", [], {"model.encoder.dim": 8, "dataset.max_tokens": None})
    heading, figure = differences_section({"model": {"encoder": {"dim": 16}, "seed": 2}}, ours)
    assert [cell.text for row in figure.iter("tbody") for cell in row.iter() if cell.text] == ["model.encoder.dim", "16", "8"]
    (same,) = differences_section({"model": {"encoder": {"dim": 8}, "seed": 2}}, ours)
    assert same.text.startswith("All settings")


def test_between_points_and_beyond():
    assert reference.value_at({10: 1.0, 20: 3.0}, 15) == 2.0
    assert reference.value_at({10: 1.0, 20: 3.0}, 20) == 3.0
    assert reference.value_at({10: 1.0}, 9) is None and reference.value_at({}, 9) is None


def test_losses_that_are_no_number_are_counted_and_not_drawn(tmp_path):
    run = write_run(tmp_path / "run")
    with (run / "log.json").open("a") as log:
        log.write(json.dumps({"loss": "nan", "num_updates": "300"}) + "\n")
    page = Page(write(run))
    assert "⚠ 1 of 4 losses are no finite number" in page.text and "from 10 to 5 at update 200" in page.source


def test_a_finetuning_run(tmp_path):
    page = Page(write(write_finetuning(tmp_path / "run")))
    assert "wer, valid 80 %, lowest 80 %" in page.text and "no pre-training run" in page.text
    assert page.tags.count("img") == 3


def test_a_run_that_went_on_has_all_of_hydras_logs(tmp_path):
    for number, day in enumerate(("2025-01-01", "2025-01-02")):
        folder = write_run(tmp_path / "run" / "outputs" / day, updates=(100 * number + 100,))
        (folder / "log.json").rename(folder / "hydra_train.log")
    page = Page(write(tmp_path / "run"))
    assert re.search(r"updates 200\b", page.text) and "from 10 to 5 at update 200" in page.source


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["{run}/nowhere"], "no such folder"),
        (["{run}/empty"], "neither a checkpoint nor a log"),
        (["{run}", "--log", "{run}/none.log"], "no such log"),
        (["{run}", "--alignment", "x.phn"], "--alignment needs --manifest"),
        (["{run}", "--generate", "{run}/log.json"], "has no T- line"),
        (["{run}", "--generate", "{run}/none"], "no such file"),
        (["{run}", "--probes", "{run}/log.json"], "no results.json of birq-probe"),
        (["{run}", "--samples", "0"], "--samples must be at least 1"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(tmp_path, capsys, arguments, said):
    run = write_run(tmp_path / "run")
    (run / "empty").mkdir()
    assert main([argument.format(run=run) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not list(tmp_path.rglob("*.html*"))
