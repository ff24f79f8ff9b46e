"""Every command that reads a checkpoint, given every kind of file that is none for it: one sentence that names the file."""

import argparse

import pytest
import torch
from fairseq import checkpoint_utils

from fairseq_birq.checkpoint import load_encoder
from fairseq_birq.cli import audit, average, export, labels, plot, probe, transcribe
from fairseq_birq.config import AsrTaskConfig, BirqConfig, BirqCtcConfig, PretrainingTaskConfig
from fairseq_birq.doors.asr_task import AsrTask
from fairseq_birq.doors.pretraining_task import PretrainingTask
from fairseq_birq.errors import UserError
from tests.fixtures.audio import tone, write_audio
from tests.fixtures.checkpoints import tiny_config, write_birq_checkpoint, write_ctc_checkpoint
from tests.fixtures.manifests import write_manifest, write_two_sounds


def write_foreign(path):
    torch.save({"cfg": {"model": {"_name": "wav2vec2"}}, "model": {}, "args": None}, path)


def write_old_foreign(path):
    torch.save({"args": argparse.Namespace(arch="wav2vec2"), "model": {}}, path)


def write_state_dict(path):
    torch.save({"encoder.weight": torch.zeros(3)}, path)


def write_exported(path):
    path.mkdir()
    (path / "model.safetensors").write_bytes(b"x")


def write_run_folder(path):
    path.mkdir()
    write_birq_checkpoint(path / "checkpoint_best.pt")


KINDS = {  # kind -> (how it is made, what is said of it)
    "foreign": (write_foreign, "'wav2vec2'"),
    "old_foreign": (write_old_foreign, "it asks for argparse.Namespace"),
    "tensor": (lambda path: torch.save(torch.zeros(3), path), "holds a Tensor"),
    "state_dict": (write_state_dict, "names no model in its settings"),
    "text": (lambda path: path.write_text("epoch: 3\nloss: 2.0\n"), "it is no checkpoint, or a damaged one"),
    "audio": (lambda path: write_audio(path.with_suffix(".wav"), tone(0.1)).rename(path), "it is no checkpoint"),
    "empty": (lambda path: path.write_bytes(b""), "it is no checkpoint, or a damaged one"),
    "exported": (write_exported, "an exported encoder"),
    "run_folder": (write_run_folder, "checkpoint_best.pt"),
    "missing": (lambda path: None, "does not exist"),
}
PLOTS = ("codes", "tsne", "utterance", "cka")
COMMANDS = {  # name -> arguments of a console script, with CKPT and other files of the folder in capitals
    "audit": (audit.main, "MANIFEST --checkpoint CKPT --out OUT"),
    "labels --layer": (labels.main, "CKPT MANIFEST OUT --layer 1"),
    "labels --source": (labels.main, "CKPT MANIFEST OUT --source raw_input"),
    "export": (export.main, "CKPT OUT --to safetensors"),
    "average": (average.main, "OUT CKPT GOOD"),
    "probe": (probe.main, "phone CKPT DATA"),
    "plot codes": (plot.main, "codes CKPT --manifest MANIFEST --alignment PHONES --out OUT.png"),
    "plot tsne": (plot.main, "tsne CKPT --manifest MANIFEST --alignment PHONES --out OUT.png"),
    "plot utterance": (plot.main, "utterance CKPT --manifest MANIFEST --out OUT.png"),
    "plot cka": (plot.main, "cka GOOD CKPT --manifest MANIFEST --out OUT.png"),
    "transcribe": (transcribe.main, "CKPT AUDIO"),
}
ONLY_PRETRAINED = ("labels --source", "plot codes", "plot utterance", "average")
ONLY_FINE_TUNED = ("transcribe",)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wrong")
    write_two_sounds(folder / "data", "train", utterances=3)
    for split in ("dev", "test"):
        write_two_sounds(folder / "data", split, utterances=2)
    write_audio(folder / "one.wav", tone(0.5))
    write_birq_checkpoint(folder / "good.pt")
    for kind, (write, _) in KINDS.items():
        write(folder / f"{kind}.pt")
    write_birq_checkpoint(folder / "pretrained.pt")
    write_ctc_checkpoint(folder / "fine_tuned.pt")
    return folder


def run(files, name, kind, tmp_path):
    main, arguments = COMMANDS[name]
    places = {
        "MANIFEST": files / "data" / "train.tsv",
        "PHONES": files / "data" / "train.phn",
        "DATA": files / "data",
        "AUDIO": files / "one.wav",
        "GOOD": files / "good.pt",
        "CKPT": files / f"{kind}.pt",
        "OUT": tmp_path / "out",
        "OUT.png": tmp_path / "out.png",
    }
    return main([str(places.get(word, word)) for word in arguments.split()])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_file_that_is_no_checkpoint_of_ours(files, tmp_path, capsys, name, kind):
    assert run(files, name, kind, tmp_path) == 2
    said = capsys.readouterr().err
    assert f"{kind}.pt" in said and KINDS[kind][1] in said and said.count("error:") == 1
    assert "weights_only" not in said and "torch.load" not in said and "torch.serialization" not in said


@pytest.mark.parametrize(
    "name, kind", [(name, "fine_tuned") for name in ONLY_PRETRAINED] + [(name, "pretrained") for name in ONLY_FINE_TUNED]
)
def test_a_checkpoint_of_our_other_model(files, tmp_path, capsys, name, kind):
    assert run(files, name, kind, tmp_path) == 2
    said = capsys.readouterr().err
    assert f"{kind}.pt" in said and said.count("error:") == 1, said


@pytest.fixture(params=["asr", "pretraining"])
def task(request, tmp_path):
    folder = write_manifest(tmp_path / "data", seconds=(1.0,), texts=["a b"])
    if request.param == "asr":
        return AsrTask.setup_task(AsrTaskConfig(data=str(folder)))
    return PretrainingTask.setup_task(PretrainingTaskConfig(data=str(folder)))


@pytest.mark.parametrize("kind", KINDS)
def test_fairseq_s_commands_with_a_file_that_is_no_checkpoint_of_ours(files, task, caplog, kind):
    with pytest.raises(SystemExit) as stop:
        checkpoint_utils.load_model_ensemble([str(files / f"{kind}.pt")], task=task)
    assert stop.value.code == 2 and len(caplog.records) == 1
    assert f"{kind}.pt" in caplog.text and KINDS[kind][1] in caplog.text


def test_fairseq_s_commands_with_a_checkpoint_of_our_other_model(files, task, caplog):
    kind, hint = ("pretrained", "fine-tune it first") if task.model_name == "birq_ctc" else ("fine_tuned", "birq_asr")
    history = {"num_updates": 1, "optimizer_name": "adam", "lr_scheduler_state": {}}
    content = torch.load(files / f"{kind}.pt", weights_only=True)
    content.update(args=None, optimizer_history=[history], extra_state={"train_iterator": {}})  # as fairseq's own
    torch.save(content, files / "whole.pt")
    with pytest.raises(SystemExit) as stop:
        checkpoint_utils.load_model_ensemble([str(files / "whole.pt")], task=task)
    assert stop.value.code == 2 and hint in caplog.text


@pytest.mark.parametrize("kind", KINDS)
def test_training_that_starts_from_it(files, task, caplog, kind):
    """`model.pretrained_path` of both methods of training."""
    config = BirqCtcConfig if task.model_name == "birq_ctc" else BirqConfig
    cfg = tiny_config(config, _name=task.model_name, pretrained_path=str(files / f"{kind}.pt"))
    with pytest.raises(SystemExit) as stop:
        task.build_model(cfg)
    assert stop.value.code == 2 and f"{kind}.pt" in caplog.text and KINDS[kind][1] in caplog.text


@pytest.mark.parametrize("kind", KINDS)
def test_load_encoder(files, kind):
    with pytest.raises(UserError, match=f"{kind}.pt"):
        load_encoder(files / f"{kind}.pt")
