"""A hostile checkpoint at every place that reads one: nothing in it runs, and one line says why it was refused."""

import ast
import os
import zipfile
from types import SimpleNamespace

import pytest
import torch
from fairseq import checkpoint_utils
from fairseq.distributed import utils as distributed_utils
from omegaconf import OmegaConf

from fairseq_birq.checkpoint import load_checkpoint, load_encoder
from fairseq_birq.cli.labels import main as birq_labels
from fairseq_birq.config import AsrTaskConfig, BirqConfig, BirqCtcConfig, PretrainingTaskConfig
from fairseq_birq.doors.asr_task import AsrTask
from fairseq_birq.doors.pretraining_task import PretrainingTask
from fairseq_birq.errors import UserError
from fairseq_birq.patches import loading
from tests.fixtures.checkpoints import Touches, tiny_config, write_birq_checkpoint
from tests.fixtures.commands import command, generate
from tests.fixtures.manifests import write_manifest
from tests.fixtures.training_commands import command as training_command

OLD_TORCH = {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}  # what a bare `torch.load` does before 2.6


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """A checkpoint that makes the file `touched` when it is unpickled, under a torch that would let it."""
    path = tmp_path / "model" / "checkpoint_best.pt"
    path.parent.mkdir()
    torch.save({"model": {}, "cfg": Touches(tmp_path / "touched")}, path)
    (tmp_path / "touched").unlink(missing_ok=True)
    for key, value in OLD_TORCH.items():
        monkeypatch.setenv(key, value)
    return path


@pytest.fixture
def corpus(tmp_path):
    write_manifest(tmp_path / "data", "test", seconds=(1.0,), texts=["a b"])
    return write_manifest(tmp_path / "data", "train", seconds=(1.0, 1.5), texts=["a b", "b"])


def refused(text, folder):
    assert "checkpoint_best.pt holds more than tensors and plain values and was refused" in text
    assert "Traceback" not in text and not (folder / "touched").exists()


def test_the_hostile_checkpoint_is_one(hostile, tmp_path):
    with open(hostile, "rb") as file:
        torch.load(file, map_location="cpu")
    assert (tmp_path / "touched").exists()


def test_training_that_resumes_refuses_it(hostile, corpus, repository, tmp_path):
    arguments = training_command(repository, "best_rq", corpus, tmp_path / "run", "dataset.valid_subset=train")
    refused(command("fairseq-hydra-train", *arguments[1:], f"checkpoint.restore_file={hostile}", status=2), tmp_path)


def test_fairseq_generate_refuses_it(hostile, corpus, repository, tmp_path):
    refused(generate(repository, tmp_path, status=2), tmp_path)


def test_a_task_of_ours_refuses_it_wherever_fairseq_reads_a_model(hostile, corpus, tmp_path, caplog):
    with pytest.raises(SystemExit):
        checkpoint_utils.load_model_ensemble([str(hostile)], task=make_task("asr", corpus))
    refused(caplog.text, tmp_path)


def test_a_checkpoint_of_ours_is_read_as_plain_values_without_a_task(corpus, tmp_path, monkeypatch):
    """As by fairseq-validate, which takes the task from the checkpoint."""
    read = []
    monkeypatch.setattr(loading, "load", lambda path, *_: read.append(path) or {"cfg": None})
    torch.save({"cfg": {"model": {"_name": "birq"}}}, tmp_path / "ours.pt")
    with pytest.raises(RuntimeError, match="Neither args nor cfg"):
        checkpoint_utils.load_model_ensemble_and_task([str(tmp_path / "ours.pt")])
    assert read == [str(tmp_path / "ours.pt")]


def test_birq_labels_refuses_it(hostile, corpus, tmp_path, capsys):
    assert birq_labels([str(hostile), f"{corpus}/train.tsv", str(tmp_path / "labels"), "--layer", "1"]) == 2
    refused(capsys.readouterr().err, tmp_path)
    assert not (tmp_path / "labels").exists()


@pytest.mark.parametrize("task, config", [("pretraining", BirqConfig), ("asr", BirqCtcConfig)])
def test_pretrained_path_refuses_it(hostile, corpus, tmp_path, caplog, task, config):
    settings = {"pretrained_path": str(hostile), "_name": "birq" if task == "pretraining" else "birq_ctc"}
    with pytest.raises(SystemExit):
        make_task(task, corpus).build_model(OmegaConf.merge(tiny_config(config), settings))
    refused(caplog.text, tmp_path)


def test_its_files_beside_labels_are_refused_too(hostile, corpus, tmp_path, capsys):
    """`--like` reads the quantizer of another folder."""
    write_birq_checkpoint(tmp_path / "good.pt")
    labels = [str(tmp_path / "good.pt"), f"{corpus}/train.tsv"]
    assert birq_labels([*labels, str(tmp_path / "one"), "--layer", "1", "--codebook-size", "16"]) == 0
    os.replace(hostile, tmp_path / "one" / "quantizer.pt")
    assert birq_labels([*labels, str(tmp_path / "two"), "--like", str(tmp_path / "one")]) == 2
    assert "quantizer.pt holds more than tensors" in capsys.readouterr().err and not (tmp_path / "touched").exists()


def make_task(name, folder):
    if name == "asr":
        return AsrTask.setup_task(AsrTaskConfig(data=str(folder)))
    return PretrainingTask.setup_task(PretrainingTaskConfig(data=str(folder)))


@pytest.mark.parametrize("task", ["pretraining", "asr"])
def test_a_checkpoint_of_a_model_that_evaluates_its_settings_is_refused(corpus, tmp_path, caplog, task):
    """Plain values only, but fairseq's wav2vec 2.0 would `eval` one of them."""
    code = f"open({str(tmp_path / 'touched')!r}, 'w') and [(512, 10, 5)]"
    path = tmp_path / "wav2vec.pt"
    content = {"cfg": {"model": {"_name": "wav2vec2", "conv_feature_layers": code}}, "model": {}, "args": None}
    history = {"num_updates": 1, "optimizer_name": "adam", "lr_scheduler_state": {}}
    torch.save({**content, "optimizer_history": [history], "extra_state": {"train_iterator": {}}}, path)
    with pytest.raises(SystemExit):
        checkpoint_utils.load_model_ensemble([str(path)], task=make_task(task, corpus))
    assert "is of model 'wav2vec2', not of birq or birq_ctc" in caplog.text
    assert not (tmp_path / "touched").exists()


class Harmless:
    """A class that a user may tell torch to trust."""


def test_what_the_user_trusts_is_let_into_fairseq_s_reading_only(tmp_path, caplog):
    path = tmp_path / "x.pt"
    torch.save({"cfg": None, "optimizer_history": [{}], "extra": Harmless()}, path)
    torch.serialization.add_safe_globals([Harmless])
    try:
        with pytest.raises(UserError, match="refused"):
            load_checkpoint(path)
        assert Harmless in torch.serialization.get_safe_globals()
        assert isinstance(load_checkpoint(path, allowed=[Harmless])["extra"], Harmless)
        with pytest.raises(SystemExit):
            loading.load(path)
        assert "x.pt names no model in its settings" in caplog.text  # it was read
    finally:
        torch.serialization.clear_safe_globals()


def test_a_file_that_unpacks_to_far_more_is_refused_before_it_is_unpacked(tmp_path):
    torch.save({"model": torch.zeros(10_000_000)}, tmp_path / "stored.pt")
    with zipfile.ZipFile(tmp_path / "stored.pt") as stored:
        with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb:
            for entry in stored.infolist():
                bomb.writestr(entry.filename, stored.read(entry))
    assert (tmp_path / "bomb.pt").stat().st_size < 100_000
    with pytest.raises(UserError, match="bomb.pt.*unpacks to more"):
        load_checkpoint(tmp_path / "bomb.pt")


@pytest.mark.parametrize(
    "content, message",
    [
        ([1, 2], "holds a list"),
        ({"cfg": [1], "model": {}}, "names no model in its settings"),
        ({"cfg": {"model": {"_name": "birq", "encoder": {"dim": "wide"}}}, "model": {}}, "settings are not those of birq"),
        ({"cfg": {"model": {"_name": "birq", "encoder": {"dimm": 3}}}, "model": {}}, "settings are not those of birq"),
        ({"cfg": {"model": {"_name": "birq"}}, "model": {5: 5}}, "weights are not those"),
        ({"cfg": {"model": {"_name": "birq"}}}, "weights are not those"),
    ],
)
def test_plain_values_that_are_no_checkpoint_are_named(tmp_path, content, message):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(UserError, match=f"x.pt.*{message}"):
        load_encoder(tmp_path / "x.pt")


def receive(rank, store, results):
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    state = {"cfg": OmegaConf.create({"a": 1}), "model": {"w": torch.arange(3)}} if rank == 0 else None
    with loading.plain_values_only():
        got = distributed_utils.broadcast_object(state, src_rank=0, group=torch.distributed.group.WORLD)
    assert got["cfg"].a == 1 and got["model"]["w"].tolist() == [0, 1, 2]
    (results / str(rank)).touch()
    torch.distributed.destroy_process_group()  # else gloo's threads may end the process with a signal


def test_rank_0_can_send_a_checkpoint_to_the_others(tmp_path):
    """fairseq's own way fails from torch 2.6 on: its settings are more than plain values."""
    torch.multiprocessing.spawn(receive, args=(tmp_path / "store", tmp_path), nprocs=2)
    assert (tmp_path / "0").exists() and (tmp_path / "1").exists()


def test_the_package_evaluates_no_text_and_loads_no_pickles(repository):
    """Every call of these names in the package; `torch.load` must say weights_only=True."""
    calls = []
    for path in (repository / "fairseq_birq").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                plain = any(word.arg == "weights_only" and getattr(word.value, "value", 0) is True for word in node.keywords)
                calls.append(SimpleNamespace(name=name, plain=plain, where=f"{path}:{node.lineno}"))
    names = {"eval", "exec", "compile", "pickle.load", "pickle.loads", "os.system", "yaml.load", "subprocess.getoutput"}
    assert [call.where for call in calls if call.name in names] == []
    loads = [call for call in calls if call.name == "torch.load"]
    assert loads and [call.where for call in loads if not call.plain] == []
