"""Every recipe for fairseq2 has the settings of the recipe for fairseq of its name."""

from pathlib import Path

import pytest
import torch
import yaml
from fairseq2.recipe.cli import main

import fairseq_birq
from fairseq_birq.config import BirqConfig, BirqCriterionConfig, PretrainingTaskConfig, StageScheduleConfig
from fairseq_birq.fairseq2.pretrain.config import OF_FAIRSEQ_ALONE
from fairseq_birq.fairseq2.pretrain.recipe import PretrainRecipe
from fairseq_birq.settings import from_dict, to_dict
from tests.fixtures.fairseq2_recipes import read
from tests.fixtures.fairseq2_runs import logged, newest

EXAMPLES = Path(fairseq_birq.__file__).parents[1] / "examples"
METHODS = ("best_rq", "birq", "latent_rq", "hubert", "relabelling")
RECIPES = sorted(
    str(path.relative_to(EXAMPLES)) for method in METHODS for path in (EXAMPLES / method / "fairseq2").glob("*.yaml")
)
SPLITS = ("train_subset", "valid_subset", "max_tokens", "batch_size", "num_workers")


def test_every_method_has_a_small_recipe_and_a_published_size():
    for method in METHODS:
        names = {Path(recipe).stem for recipe in RECIPES if recipe.startswith(f"{method}/")}
        assert {"debug", "mboshi_small"} < names
    assert {"birq/fairseq2/c1_librispeech.yaml", "birq/fairseq2/c2_librispeech.yaml", "birq/fairseq2/c3_yodas.yaml"} < set(
        RECIPES
    )


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_has_the_settings_of_the_one_for_fairseq(recipe):
    config, model = read(PretrainRecipe(), EXAMPLES / recipe, task={"data": "/data"})
    theirs = yaml.safe_load((EXAMPLES / recipe.replace("/fairseq2/", "/")).read_text())
    theirs["model"].get("targets", {}).get("label_file", {}).pop("path", None)  # fairseq2's is on the command line
    assert model == from_dict(BirqConfig, theirs["model"])
    assert from_dict(BirqCriterionConfig, config.criterion) == from_dict(BirqCriterionConfig, theirs["criterion"])
    task = from_dict(PretrainingTaskConfig, {**theirs["task"], "data": "/data"})
    assert vars(config.task) == {key: value for key, value in to_dict(task).items() if key not in OF_FAIRSEQ_ALONE}
    defaults = {"batch_size": None, "num_workers": 1}
    assert vars(config.dataset) == {key: theirs["dataset"].get(key, defaults.get(key)) for key in SPLITS}
    check_training(config, theirs)


def check_training(config, theirs):
    optimization, optimizer, schedule = theirs["optimization"], theirs["optimizer"], theirs["lr_scheduler"]
    ours = vars(config.optimizer.config)
    assert ours.pop("lr") == optimization["lr"][0] and list(ours.pop("betas")) == yaml.safe_load(
        optimizer["adam_betas"].replace("(", "[").replace(")", "]").replace(",", ", ")
    )
    assert ours == {"eps": optimizer.get("adam_eps", 1e-8), "weight_decay": optimizer["weight_decay"]}
    assert config.trainer.max_grad_norm == optimization["clip_norm"]
    assert config.trainer.grad_accumulation.num_batches == optimization["update_freq"][0]
    assert config.regime.num_steps == optimization["max_update"] == schedule["total_num_update"]
    assert config.lr_scheduler.name == schedule.pop("_name") and config.common.seed == theirs["common"]["seed"]
    if config.lr_scheduler.name == "birq_stages":
        assert config.lr_scheduler.config == from_dict(StageScheduleConfig, schedule)
    else:
        assert config.lr_scheduler.config.num_warmup_steps == schedule["warmup_updates"]
    halved = bool(theirs["common"].get("bf16"))
    precision = config.trainer.mixed_precision
    assert (precision.mode, precision.dtype) == (("auto", torch.bfloat16) if halved else ("off", torch.bfloat16))


@pytest.mark.parametrize(
    "method, updates, curve",
    [
        ("best_rq", 6, "loss_raw_input"),
        ("birq", 6, "nmi_own_layer_raw_input"),
        ("latent_rq", 20, "perplexity_snapshot_layer1"),  # its stages begin at 8 and 14
    ],
)
def test_the_command_trains_a_debug_recipe(method, updates, curve, corpus, tmp_path, monkeypatch):
    """`python -m fairseq_birq.fairseq2.pretrain`, in this process."""
    arguments = ["pretrain", str(tmp_path / "run"), "--no-rich", "--no-exit-on-error"]
    arguments += ["--config-file", str(EXAMPLES / method / "fairseq2/debug.yaml")]
    arguments += ["--config", f"task.data={corpus}", *([] if updates == 20 else [f"regime.num_steps={updates}"])]
    monkeypatch.setattr("sys.argv", arguments)
    main(PretrainRecipe())
    steps = logged(tmp_path / "run")
    assert newest(tmp_path / "run/checkpoints")[1] == steps[-1]["Step"] == updates
    assert all(step["Loss"] >= 0 for step in steps) and curve in steps[-1]  # 0 where a batch has no masked frame
    assert max(step["Loss"] for step in steps) > 3
    assert logged(tmp_path / "run", "valid")[-1]["Step"] == updates
