"""The three commands of the README, made small: pre-train, fine-tune what that wrote, measure what came of it."""

import importlib
import json
import re
import shlex

from fairseq_birq import load_encoder
from fairseq_birq.model import BirqModel
from tests.fixtures.fairseq2 import ctc_case
from tests.fixtures.fairseq2.commands import start

RECIPES = {"pretrain": "PretrainRecipe", "asr": "AsrRecipe", "asr.eval": "AsrEvalRecipe"}
STEPS = ["regime.num_steps=2", "regime.validate_every_n_steps=2", "regime.checkpoint_every_n_steps=2"]
STEPS += ["regime.publish_metrics_every_n_steps=1", "dataset.max_tokens=32000", "dataset.num_workers=0"]
ENCODER = "model.config_overrides.encoder={num_layers: 2, dim: 16, ffn_dim: 32, num_heads: 2, conv_kernel: 5}"
SMALL = {
    "pretrain": [*STEPS, ENCODER, "lr_scheduler.config.num_warmup_steps=1"],
    "asr": STEPS,
    "asr.eval": [],
}


def commands(text):
    """(recipe, its arguments) of the README."""
    found = re.findall(r"^python -m fairseq_birq\.fairseq2\.(\S+) ((?:.*\\\n)*.*)$", text, re.MULTILINE)
    return [(recipe, shlex.split(rest.replace("\\\n", " "))) for recipe, rest in found]


def test_the_commands_of_the_readme_pretrain_finetune_and_evaluate(tmp_path, repository, monkeypatch):
    data = ctc_case.write_corpus(tmp_path / "data")
    found = commands((repository / "README.md").read_text())
    assert [recipe for recipe, _ in found] == list(RECIPES)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(repository / "examples")
    for recipe, arguments in found:
        module = importlib.import_module(f"fairseq_birq.fairseq2.{recipe}.recipe")
        arguments = [argument.replace("/data/manifests", str(data)) for argument in arguments]
        start(getattr(module, RECIPES[recipe])(), *arguments, *SMALL[recipe])
    assert set(BirqModel.from_checkpoint("runs/birq").targets) == {"raw_input", "own_layer"}
    assert load_encoder("runs/letters").dim == 16
    (line,) = (tmp_path / "runs/error_rate/metrics/eval.jsonl").read_text().splitlines()
    assert json.loads(line)["Number of Examples"] == 8 and 0 < json.loads(line)["Word Error Rate (WER)"]
