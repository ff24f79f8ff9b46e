"""The recipes of fine-tuning: each composes, and says what the one of the same name for fairseq says."""

import pytest
import yaml

from fairseq_birq.errors import UserError
from fairseq_birq.fairseq2.asr.config import DecoderSection
from fairseq_birq.fairseq2.asr.eval.recipe import AsrEvalRecipe, build_decoder
from fairseq_birq.fairseq2.asr.recipe import AsrRecipe
from fairseq_birq.fairseq2.ctc_family import CtcConfig
from fairseq_birq.fairseq2_files import read_yaml
from fairseq_birq.settings import merged
from tests.fixtures.fairseq2.commands import start

NAMES = ("debug", "mboshi_small", "librispeech_100h", "c1_librispeech_100h", "c2_librispeech_100h", "c3_ami")


@pytest.fixture
def composed(capsys, tmp_path):
    """A function that asks a command what its configuration is."""

    def composed(recipe, *arguments):
        capsys.readouterr()
        start(recipe, *arguments, "--dump-config")
        (tmp_path / "dump.yaml").write_text(capsys.readouterr().out)
        return read_yaml(tmp_path / "dump.yaml")

    return composed


def test_every_recipe_is_here(repository):
    assert {path.stem for path in (repository / "examples/finetune/fairseq2").glob("*.yaml")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_composes_and_is_that_of_fairseq(repository, composed, name):
    ours = composed(AsrRecipe(), "--config-file", repository / f"examples/finetune/fairseq2/{name}.yaml")
    theirs = yaml.safe_load((repository / f"examples/finetune/{name}.yaml").read_text())
    assert merged(CtcConfig(), ours["model"]["config_overrides"]) == merged(CtcConfig(), plain(theirs["model"]))
    theirs["dataset"].pop("validate_interval", None)
    assert ours["dataset"].items() >= theirs["dataset"].items()
    assert all(ours["task"][key] == value for key, value in theirs["task"].items() if key in ours["task"])
    assert ours["criterion"]["sentence_avg"] == theirs["criterion"].get("sentence_avg", False)
    assert ours["trainer"]["mixed_precision"]["mode"] == ("auto" if theirs["common"].get("bf16") else "off")
    optimization, regime, adam = theirs["optimization"], ours["regime"], theirs["optimizer"]
    assert ours["trainer"]["max_grad_norm"] == optimization["clip_norm"]
    assert ours["trainer"]["grad_accumulation"]["num_batches"] == optimization.get("update_freq", [1])[0]
    assert (regime["num_steps"], regime["score_metric"]) == (
        optimization["max_update"],
        theirs["checkpoint"]["best_checkpoint_metric"],
    )
    assert ours["optimizer"]["config"] == {
        "lr": optimization["lr"][0],
        "betas": [float(beta) for beta in adam["adam_betas"].strip("()").split(",")],
        "eps": adam.get("adam_eps", 1e-8),
        "weight_decay": adam.get("weight_decay", 0.0),
    }
    schedule = ours["lr_scheduler"]["config"]
    assert (schedule["stage_ratio"], schedule["final_lr_scale"]) == tuple(
        theirs["lr_scheduler"][key] for key in ("phase_ratio", "final_lr_scale")
    )
    assert ours["common"]["seed"] == theirs["common"]["seed"] and ours["common"]["no_sweep_dir"]


def test_the_evaluation_needs_no_recipe(composed):
    assert composed(AsrEvalRecipe(), "--config", "model.path=somewhere")["decoder"]["name"] == "auto"


def test_options_of_decoding_that_would_have_no_effect_are_refused():
    assert build_decoder(DecoderSection(), ["<s>"]) is None
    with pytest.raises(UserError, match="`decoder.beam` 7 would have no effect"):
        build_decoder(DecoderSection(beam=7), ["<s>"])
    with pytest.raises(UserError, match="flashlight|nowhere.txt"):  # that is chosen, and needs what is not there
        build_decoder(DecoderSection(lexicon="nowhere.txt"), ["<s>", "|"])


def plain(model):
    """The section `model` of a recipe for fairseq as `model.config_overrides`."""
    return {**{key: value for key, value in model.items() if key != "_name"}, "pretrained_path": None}
