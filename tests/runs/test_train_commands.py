"""Pre-training through the real command line: recipes, resume, two processes."""

import shutil

import pytest
import torch
import yaml

from fairseq_birq.cli.labels import main as labels_main
from tests.fixtures.checkpoints import write_birq_checkpoint
from tests.fixtures.commands import shell
from tests.fixtures.manifests import write_corpus, write_manifest
from tests.fixtures.training_commands import command, logged, train, train_in_two_processes, weights

RECIPES = {"best_rq": "raw_input", "birq": "raw_input", "latent_rq": "snapshot", "relabelling": "label_file"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def labels(corpus, tmp_path_factory):
    """Labels of the corpus as the relabelling recipe wants them, from a tiny random model."""
    folder = tmp_path_factory.mktemp("labels")
    write_birq_checkpoint(folder / "any.pt")
    how = {"train": "--layer 1 --num-codebooks 2 --codebook-size 64", "valid": f"--like {folder}/train"}
    for split, options in how.items():
        assert labels_main([f"{folder}/any.pt", f"{corpus}/{split}.tsv", f"{folder}/{split}", *options.split()]) == 0
    return folder


@pytest.mark.parametrize("recipe, source", RECIPES.items())
def test_debug_recipe_trains_three_updates(repository, recipe, source, corpus, labels, tmp_path):
    given = [f"model.targets.label_file.path={labels}"] if recipe == "relabelling" else []
    output = train(command(repository, recipe, corpus, tmp_path / "run", *given), tmp_path)
    updates = logged(output)
    assert [int(entry["num_updates"]) for entry in updates] == [1, 2, 3]
    assert float(updates[0][f"loss_{source}"]) == pytest.approx(4.16, abs=0.2)  # ln 64
    for measure in ("accuracy", "top_share", "perplexity", "used_share"):
        assert float(updates[0][f"{measure}_{source}"]) >= 0
    valid = logged(output, "valid")[-1]
    assert float(valid["valid_mask_coverage"]) > 0
    assert (tmp_path / "run" / "checkpoint_last.pt").exists()


def test_bf16_through_fairseqs_optimizer_trains_on_the_same_labels(repository, corpus, tmp_path):
    runs = {}
    for precision in ("common.fp16=false", "common.bf16=true"):
        arguments = command(repository, "best_rq", corpus, tmp_path / precision[7:11], precision, "optimization.max_update=2")
        runs[precision] = logged(train(arguments, tmp_path))
    full, half = runs.values()
    for key in ("perplexity_raw_input", "top_share_raw_input", "used_share_raw_input", "mask_coverage"):
        assert [entry[key] for entry in full] == [entry[key] for entry in half]
    assert float(half[1]["loss"]) == pytest.approx(float(full[1]["loss"]), rel=0.01)


def test_two_processes_train_as_one_on_the_joined_batch(repository, corpus, tmp_path):
    """One process that accumulates two batches takes the step that two processes with a batch each take."""
    plain = ["model.encoder.dropout=0.0", "model.encoder.attention_dropout=0.0", "common.log_interval=1"]
    train(command(repository, "best_rq", corpus, tmp_path / "one", *plain, "optimization.update_freq=[2]"), tmp_path)
    output = train_in_two_processes(repository, "best_rq", corpus, tmp_path / "two", *plain, folder=tmp_path)
    assert len(logged(output)) == 3
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for key, tensor in one.items():
        if torch.is_tensor(tensor):
            assert torch.allclose(tensor, two[key], atol=2e-5), key


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(repository, corpus, tmp_path):
    whole = ["optimization.max_update=6"]
    train(command(repository, "best_rq", corpus, tmp_path / "whole", *whole), tmp_path)
    train(command(repository, "best_rq", corpus, tmp_path / "parts"), tmp_path)
    output = train(command(repository, "best_rq", corpus, tmp_path / "parts", *whole), tmp_path)
    assert int(logged(output)[0]["num_updates"]) == 4
    expected, resumed = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    for key, tensor in expected.items():
        if torch.is_tensor(tensor):
            assert torch.equal(tensor, resumed[key]), key


@pytest.mark.parametrize(
    "overrides, part",
    [
        (["model.quantizer.seed=7", "task.resume=changed"], "fingerprint"),
        (["model.encoder.dim=48", "task.resume=changed"], "do not fit this configuration"),
        (["optimization.lr=[0.1]"], "holds a run with other settings: optimization.lr [0.001] -> [0.1]"),
        (["+override.x=1"], "`override` is unknown"),
        (["+common.sede=1"], "sede"),  # hydra 1.0 says it first
        (["+model.quantizer.codebok_size=3"], "codebok_size"),
        (["criterion.weights={raw_imput: 1.0}", "task.resume=changed"], "raw_imput"),
    ],
)
def test_a_mistake_is_named_and_the_checkpoint_stays(repository, corpus, tmp_path_factory, tmp_path, overrides, part):
    run = tmp_path_factory.getbasetemp() / "mistakes"
    if not run.exists():
        train(command(repository, "best_rq", corpus, run), tmp_path)
    before = (run / "checkpoint_last.pt").read_bytes()
    output = train(command(repository, "best_rq", corpus, run, "optimization.max_update=9", *overrides), tmp_path, ok=False)
    assert part in output
    assert (run / "checkpoint_last.pt").read_bytes() == before


def test_every_recipe_names_only_known_keys(repository):
    """Composed against the dataclasses, without running."""
    from fairseq.dataclass.configs import FairseqConfig
    from fairseq.models import MODEL_DATACLASS_REGISTRY
    from fairseq.registry import REGISTRIES
    from fairseq.tasks import TASK_DATACLASS_REGISTRY
    from omegaconf import OmegaConf

    import fairseq_birq.doors  # noqa: F401

    registries = {name: registry["dataclass_registry"] for name, registry in REGISTRIES.items()}
    registries.update(model=MODEL_DATACLASS_REGISTRY, task=TASK_DATACLASS_REGISTRY)
    recipes = sorted((repository / "examples").glob("*/*.yaml"))
    checked = 0
    for path in recipes:
        config = yaml.safe_load(path.read_text())
        if "model" not in config:
            continue
        for part, settings in config.items():
            known = registries[part][settings["_name"]] if part in registries else getattr(FairseqConfig(), part)
            OmegaConf.merge(OmegaConf.structured(known), {key: value for key, value in settings.items() if value != "???"})
            checked += 1
        assert "fairseq-hydra-train" in path.read_text().split("common:")[0], f"{path} must begin with its launch command"
    assert checked >= 18 * 10


def test_a_sweep_as_the_page_writes_it_trains_every_job(repository, tmp_path):
    write_manifest(tmp_path / "m", "train", seconds=[1.0] * 4)
    write_manifest(tmp_path / "m", "valid", seconds=[1.0] * 2)
    page = (repository / "docs" / "resuming.md").read_text()
    script = page.split("## Sweeps")[1].split("```text\n")[1].split("```")[0]
    for old, new in (("mboshi_small", "debug"), ("/data/manifests", f"{tmp_path}/m"), ("$PWD/runs", f"{tmp_path}/runs")):
        assert old in script
        script = script.replace(old, new)
    script = script.rstrip() + " common.cpu=true optimization.max_update=2"
    shell(script, repository)
    shutil.rmtree(tmp_path / "runs" / "sweep" / "1")  # as if the second job had not begun; the first is complete
    assert "has had its 2 updates" in shell(script, repository)
    rates = []
    for job in range(2):
        checkpoint = torch.load(str(tmp_path / "runs" / "sweep" / str(job) / "checkpoint_last.pt"), weights_only=True)
        assert checkpoint["optimizer_history"][-1]["num_updates"] == 2
        rates += checkpoint["cfg"]["optimization"]["lr"]
    assert rates == [0.001, 0.002]
