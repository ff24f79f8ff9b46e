"""Whole runs of the recipes `asr` and `asr.eval` on a small corpus, as their commands start them, in this process."""

import json

import pytest
import torch

from fairseq_birq import load_encoder
from fairseq_birq.checkpoint import load, load_checkpoint
from fairseq_birq.fairseq2.asr.eval.recipe import AsrEvalRecipe
from fairseq_birq.fairseq2.asr.recipe import AsrRecipe
from fairseq_birq.fairseq2.asr.units import CtcTrainUnit
from fairseq_birq.tools.transcribe.recogniser import load_recogniser
from tests.fixtures.fairseq2 import ctc_case
from tests.fixtures.fairseq2.checkpoints import write_birq
from tests.fixtures.fairseq2.commands import start
from tests.fixtures.manifests import write_manifest

STEPS = ["regime.num_steps=6", "regime.checkpoint_every_n_steps=3", "regime.validate_every_n_steps=3"]
SMALL = ["dataset.max_tokens=32000", "common.torch.num_threads=1", "common.metric_recorders.tensorboard.enabled=false"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return ctc_case.write_corpus(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """Of fairseq's side."""
    path = tmp_path_factory.mktemp("pretrained") / "checkpoint_last.pt"
    write_birq(path, encoder={"num_layers": 2, "dim": 16, "ffn_dim": 32, "num_heads": 2, "conv_kernel": 5, "dropout": 0.1})
    return path


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory, repository, data, pretrained):
    return finetune(tmp_path_factory.mktemp("run") / "out", repository, data, pretrained)


def finetune(out, repository, data, pretrained, *changes):
    settings = [f"task.data={data}", f"model.config_overrides.pretrained_path={pretrained}", *STEPS, *SMALL, *changes]
    file = repository / "examples/finetune/fairseq2/debug.yaml"
    start(AsrRecipe(), out, "--config-file", file, "--config", *settings)
    return out


def evaluate(out, data, *changes):
    start(AsrEvalRecipe(), out, "--config", f"task.data={data}", *SMALL, *changes)
    (metrics,) = [json.loads(line) for line in (out / "metrics/eval.jsonl").read_text().splitlines()]
    return metrics, (out / "transcriptions/rank_0.tsv").read_text().splitlines()


def logged(out, kind):
    return [json.loads(line) for line in (out / f"metrics/{kind}.jsonl").read_text().splitlines()]


def test_the_run_starts_with_the_encoder_and_leaves_a_checkpoint_that_everything_reads(finetuned, pretrained):
    content = load_checkpoint(finetuned)
    assert content["task_state"]["symbols"][4:] == ["a", "b", "|"] and content["optimizer_history"][-1]["num_updates"] == 6
    settings, _ = load(finetuned)
    assert settings.encoder.dim == 16 and settings.pretrained_path is None and settings.initialized_from == str(pretrained)
    assert settings.encoder.layer_dropout == 0.1  # of fine-tuning, not of the checkpoint
    assert load_encoder(finetuned / "checkpoints/step_3").dim == 16
    assert load_recogniser(finetuned).symbols == content["task_state"]["symbols"]


def test_the_encoder_is_frozen_in_the_beginning(finetuned, tmp_path, repository, data, pretrained):
    out = finetune(tmp_path / "out", repository, data, pretrained, "model.config_overrides.freeze_encoder_updates=6")
    ours, theirs, learned = (load_encoder(path).state_dict() for path in (out, pretrained, finetuned))
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())
    assert not all(torch.equal(value, theirs[key]) for key, value in learned.items())


def test_what_is_logged(finetuned):
    train, valid = logged(finetuned, "train"), logged(finetuned, "valid")
    assert [line["Step"] for line in train] == [1, 2, 3, 4, 5, 6]
    assert all(line["CTC Loss"] > 0 and line["bad_audio"] == 0 for line in train)
    assert [line["Step"] for line in valid] == [3, 6] and all(0 <= line["Word Error Rate (WER)"] for line in valid)


def test_a_killed_run_goes_on_as_if_it_had_not_been(finetuned, tmp_path, repository, data, pretrained, monkeypatch):
    process, out = CtcTrainUnit.process_batch, tmp_path / "out"

    def killed(self, batch, metric_bag):
        if self._base_model.num_updates == 4:
            raise RuntimeError("killed")
        return process(self, batch, metric_bag)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(CtcTrainUnit, "process_batch", killed)
        finetune(out, repository, data, pretrained)
    assert not (out / "checkpoints/step_6").exists()
    finetune(out, repository, data, pretrained)
    ours, whole = load(out)[1], load(finetuned)[1]
    assert all(torch.equal(value, whole[key]) for key, value in ours.items())


def test_evaluation_measures_what_it_writes(finetuned, tmp_path, data):
    metrics, lines = evaluate(tmp_path / "out", data, "dataset.subset=valid", f"model.path={finetuned}")
    rows = [line.split("\t") for line in lines[1:]]
    assert sorted((int(row), said) for row, said, _ in rows) == list(enumerate(ctc_case.TEXTS))
    errors = logged(finetuned, "valid")[-1]
    assert metrics["Word Error Rate (WER)"] == errors["Word Error Rate (WER)"]
    assert metrics["Character Error Rate (CER)"] == errors["Character Error Rate (CER)"]


def test_audio_that_cannot_be_read_is_counted(finetuned, tmp_path, capfd):
    """By a worker process. More than the budget is one sentence."""
    data = ctc_case.write_corpus(tmp_path / "data")
    (data / "valid/0003.flac").unlink()
    changes = ["dataset.subset=valid", f"model.path={finetuned}"]
    metrics, lines = evaluate(tmp_path / "out", data, *changes, "task.bad_audio_budget=0.2")
    assert metrics["bad_audio"] == 1 and sorted(line.split("\t")[0] for line in lines[1:]) == [*"0124567"]
    with pytest.raises(SystemExit):
        evaluate(tmp_path / "again", data, *changes, "task.on_bad_audio=error")
    assert "0003.flac" in capfd.readouterr()[1]


def test_subword_units_are_written_as_words(tmp_path, repository, pretrained):
    data, units = ctc_case.write_corpus(tmp_path / "data"), ["\u2581a", "\u2581b", "a", "b"]
    spelled = [" ".join(" ".join(["\u2581" + word[0], *word[1:]]) for word in text.split()) for text in ctc_case.TEXTS]
    for split in ("train", "valid"):
        (data / f"{split}.spm").write_text("\n".join(spelled) + "\n")
    (data / "dict.spm.txt").write_text("".join(f"{unit} 1\n" for unit in units))
    (data / "spm.vocab").write_text("<unk>\t0\n" + "".join(f"{unit}\t-{place + 1}\n" for place, unit in enumerate(units)))
    out = finetune(tmp_path / "out", repository, data, pretrained, "task.labels=spm", "regime.num_steps=3")
    assert load_checkpoint(out)["task_state"]["unit_scores"] == [-1.0, -2.0, -3.0, -4.0]
    _, lines = evaluate(tmp_path / "eval", data, "dataset.subset=valid", "task.labels=spm", f"model.path={out}")
    assert {line.split("\t")[1] for line in lines[1:]} == set(ctc_case.TEXTS)


def test_letters_that_the_model_lacks_are_errors_of_the_model(finetuned, tmp_path):
    data = write_manifest(tmp_path / "data", "valid", seconds=[1.0], texts=["zzz"])
    metrics, lines = evaluate(tmp_path / "out", data, "dataset.subset=valid", f"model.path={finetuned}")
    assert lines[1].split("\t")[1] == "zzz" and metrics["Character Error Rate (CER)"] >= 100


def test_a_finetuned_model_goes_on_with_its_own_letters_alone(finetuned, tmp_path, repository, data, capfd):
    out = tmp_path / "out"
    changes = [f"model.path={finetuned}", "optimizer.config.lr=0.0"]
    finetune(out, repository, data, "null", *changes)
    ours, theirs = load(out)[1], load(finetuned)[1]
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())
    other = write_manifest(tmp_path / "data", "train", seconds=[1.0], texts=["xyz"])
    with pytest.raises(SystemExit):
        finetune(tmp_path / "other", repository, other, "null", *changes)
    assert "was trained with other letters" in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    "changes, sentence",
    [
        (["task.data=/nowhere"], "dict.ltr.txt: no such dictionary"),
        (["model.config_overrides.pretrained_path=/nowhere"], "/nowhere does not exist"),
        (["model.config_overrides.upsampel=2"], "did you mean `upsample`"),
        (["task.sample_rate=8000"], "`task.sample_rate` is 8000"),
        (["model.arch=huge"], "`model.arch` must be one of base, base12"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, repository, data, pretrained, capfd, changes, sentence):
    with pytest.raises(SystemExit) as ended:
        finetune(tmp_path / "out", repository, data, pretrained, *changes)
    said = "".join(capfd.readouterr())
    assert ended.value.code == 2 and sentence in said and "Traceback" not in said
