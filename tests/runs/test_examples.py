"""The recipes of published sizes: parameters, pairs that differ in the labels alone, commands of the READMEs."""

import re
import shlex
import subprocess

import pytest
import yaml
from omegaconf import OmegaConf
from torch import nn

from fairseq_birq.config import BirqConfig, BirqCtcConfig
from fairseq_birq.ctc import _OWN_SETTINGS
from fairseq_birq.data.transcripts import to_letters
from fairseq_birq.model import BirqModel
from fairseq_birq.tools.doctor.config import check_config, find_yaml

MILLIONS = {"c1_librispeech": 137, "c2_librispeech": 155, "c3_yodas": 275}  # arXiv 2509.15430
FINETUNED = {"c1_librispeech": "c1_librispeech_100h", "c2_librispeech": "c2_librispeech_100h", "c3_yodas": "c3_ami"}


def recipe(repository, name):
    return yaml.safe_load((repository / "examples" / f"{name}.yaml").read_text())


def model_config(recipe, config_class):
    settings = {key: value for key, value in recipe["model"].items() if key != "_name"}
    return OmegaConf.merge(OmegaConf.structured(config_class), settings)


def leaves(config, prefix=""):
    """Dotted names of everything that a recipe sets."""
    for key, value in config.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


@pytest.fixture
def parameters_without_memory(monkeypatch):
    """Modules put their parameters on the meta device as they get them; buffers are real."""
    register = nn.Module.register_parameter

    def register_on_meta(module, name, parameter):
        register(module, name, None if parameter is None else nn.Parameter(parameter.to("meta")))

    monkeypatch.setattr(nn.Module, "register_parameter", register_on_meta)


@pytest.mark.parametrize("method", ["birq", "best_rq"])
@pytest.mark.parametrize("name", sorted(MILLIONS))
def test_models_have_the_published_numbers_of_parameters(repository, parameters_without_memory, method, name):
    model = BirqModel.build_model(model_config(recipe(repository, f"{method}/{name}"), BirqConfig))
    assert all(parameter.is_meta for parameter in model.parameters())
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == pytest.approx(MILLIONS[name] * 1e6, rel=0.03)
    (said,) = re.findall(r"\(([\d.]+) M parameters\)", (repository / "examples" / "birq" / f"{name}.yaml").read_text())
    assert f"{count / 1e6:.1f}" == said


def test_latent_rq_has_the_published_size_layers_and_stages(repository, parameters_without_memory):
    """PMLR 312:78-93: about 150 M parameters, 18 x 4096 x 16 on its layers 5-10, 40 % of the frames masked."""
    config = recipe(repository, "latent_rq/librispeech_base")
    model = BirqModel.build_model(model_config(config, BirqConfig))
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert trained == pytest.approx(150e6, rel=0.03)
    for page in ("librispeech_base.yaml", "README.md"):
        assert f"{trained / 1e6:.1f} M trained parameters" in (repository / "examples" / "latent_rq" / page).read_text()
    snapshot, encoder, mask = model.targets["snapshot"], config["model"]["encoder"], config["model"]["mask"]
    assert (encoder["num_layers"], encoder["dim"], encoder["ffn_dim"]) == (17, 512, 2048)
    assert snapshot.target_updates == (100000, 250000, 400000) == tuple(config["lr_scheduler"]["target_updates"])
    assert config["optimization"]["max_update"] == 500000
    assert [tuple(quantizer.codebook.shape) for quantizer in snapshot.quantizers] == [(3, 4096, 16)] * 6
    assert 1 - (1 - mask["start_prob"]) ** (mask["span_ms"] / 10) == pytest.approx(0.4, abs=0.001)


def test_latent_rqs_layer_choices_are_one_line_overrides(repository):
    """The paper's numbers, one smaller than ours; each choice shares out all 18 codebooks. Layers are made narrow here."""
    text = (repository / "examples" / "latent_rq" / "README.md").read_text()
    choices = re.findall(r"^\| ([−\d][^|]*) \| `(model\.targets\.snapshot\.layers=.*)` \|$", text, re.MULTILINE)
    config = recipe(repository, "latent_rq/librispeech_base")["model"]
    config["encoder"].update(dim=8, ffn_dim=8, num_heads=2)
    config["quantizer"]["codebook_size"] = 16
    for theirs, override in choices:
        made = OmegaConf.merge(model_config({"model": config}, BirqConfig), OmegaConf.from_dotlist([override.split(".", 1)[1]]))
        numbers = [int(number.replace("−", "-")) for number in re.findall(r"−?\d+", theirs)]
        expected = list(range(numbers[0], numbers[1] + 1)) if "…" in theirs else numbers
        snapshot = BirqModel.build_model(made).targets["snapshot"]
        assert snapshot.layers == tuple(number + 1 for number in expected)
        assert sum(quantizer.num_codebooks for quantizer in snapshot.quantizers) == 18
    assert len(choices) == 6


@pytest.mark.parametrize("name", sorted(MILLIONS))
def test_birq_and_its_baseline_differ_in_the_labels_alone(repository, name):
    birq, best_rq = recipe(repository, f"birq/{name}"), recipe(repository, f"best_rq/{name}")
    assert birq["criterion"].pop("weights") != best_rq["criterion"].pop("weights")
    assert birq["model"]["targets"].pop("use") == best_rq["model"]["targets"].pop("use") + ["own_layer"]
    for part in (part for one in (birq, best_rq) for part in (one["model"]["targets"], one["model"], one["criterion"])):
        for key in ("own_layer", "masked_views", "warmup_updates", "start_updates", "log_grad_every"):
            part.pop(key, None)
    assert birq == best_rq


def test_c2_on_one_gpu_is_c2_with_the_batch_of_eight(repository):
    one, eight = (recipe(repository, f"birq/c2_librispeech{end}") for end in ("_1gpu", ""))
    batches = []
    for config in (one, eight):
        world, workers = config["distributed_training"].pop("distributed_world_size"), config["dataset"].pop("num_workers")
        batches.append([world * config["dataset"].pop(key) for key in ("batch_size", "max_tokens")])
        assert workers
    assert batches[0] == batches[1] == [64, 64 * 20 * 16000] and one == eight


@pytest.mark.parametrize("name", sorted(MILLIONS))
def test_fine_tuning_from_scratch_has_the_pretrained_encoder(repository, name):
    pretrained = model_config(recipe(repository, f"birq/{name}"), BirqConfig)
    finetuned = model_config(recipe(repository, f"finetune/{FINETUNED[name]}"), BirqCtcConfig)
    assert finetuned.pretrained_path is None
    for part, own in _OWN_SETTINGS.items():
        expected, got = dict(pretrained[part]), dict(finetuned[part])
        for key in own:
            del expected[key], got[key]
        assert expected and got == expected


@pytest.mark.parametrize("name", [*(f"birq/{name}" for name in sorted(MILLIONS)), "birq/published"])
def test_published_settings_of_birq(repository, name):
    config = recipe(repository, name)
    layers, own = config["model"]["encoder"]["num_layers"], config["model"]["targets"]["own_layer"]
    assert config["criterion"]["weights"] == {"raw_input": 2.4, "own_layer": 0.1}
    assert config["criterion"]["warmup_updates"] == config["criterion"]["start_updates"] == {}
    assert config["optimization"]["lr"] == [1e-4] and config["optimizer"]["_name"] == "birq_adamw"
    assert own["temperature"] == 0.5 and own["target_grad_scale"] == 1.0 and not own["straight_through"]
    assert own["shared_codebook"] and own["shared_head"]
    assert own["layers"][0] / layers == pytest.approx(0.7, abs=0.11) and len(own["layers"]) == 1


@pytest.mark.parametrize("name", sorted(MILLIONS))
def test_what_other_recipes_set_can_be_set_on_the_command_line(repository, name):
    listed = set(leaves(recipe(repository, f"birq/{name}")))
    known = {*leaves(recipe(repository, "best_rq/librispeech_base")), *leaves(recipe(repository, "birq/debug"))}
    within = {"criterion.weights"}  # a dictionary by source
    missing = {key for key in known - listed if key not in within}
    assert missing == set()


def test_learning_rates_reach_their_end_with_the_last_update(repository):
    schedules = 0
    for path in (repository / "examples").glob("*/*.yaml"):
        config = yaml.safe_load(path.read_text())
        if "total_num_update" in config.get("lr_scheduler", {}):
            assert config["lr_scheduler"]["total_num_update"] == config["optimization"]["max_update"], path
            schedules += 1
    assert schedules >= 10


def steps_of(experiment):
    """What a table or a list of regimes runs: dictionaries with `config` and `overrides`."""
    for row in experiment.get("rows", ()):
        yield from (row[part] for part in ("pretrain", "finetune") if part in row)
    for regime in experiment.get("regimes", ()):
        common = experiment["run"]
        yield {**common, "overrides": [*common["overrides"], *regime.get("overrides", [])]}


def test_hydra_takes_every_row_of_the_tables_and_regimes(repository):
    folder, composed, refused = repository / "examples", set(), []
    for path in [*folder.glob("*/table*.yaml"), *folder.glob("*/regimes*.yaml")]:
        for step in steps_of(yaml.safe_load(path.read_text())):
            overrides = tuple(step.get("overrides", ()))
            if (step["config"], overrides) not in composed:
                composed.add((step["config"], overrides))
                given = [f"{key}=/x" for key in ("common.user_dir", "task.data", "checkpoint.save_dir")]
                given += ["model.pretrained_path=/x"] * ("finetune" in step["config"])
                given += ["model.targets.label_file.path=/x"] * ("labels_from" in step)
                cfg, checks = check_config(find_yaml(None, None, [str(folder / step["config"]), *given, *overrides]))
                refused += [] if cfg is not None else [(path.name, check.line()) for check in checks]
    assert refused == [] and len(composed) > 40


def test_the_decoding_pages_awk_spells_words_as_the_label_files_do(repository):
    text = (repository / "examples" / "decode" / "README.md").read_text()
    programs = re.findall(r"awk '(.*)'", text)
    for program in programs:
        spelt = subprocess.run(["awk", program], input="A\nDON'T\n", capture_output=True, text=True, check=True).stdout
        assert spelt == "".join(f"{word}\t{to_letters(word)}\n" for word in ("A", "DON'T"))
    assert len(programs) == 2


def test_decoding_commands_have_known_options(repository):
    from fairseq import options

    text = (repository / "examples" / "decode" / "README.md").read_text()
    commands = re.findall(r"^    (fairseq-generate (?:.*\\\n)*.*)$", text, re.MULTILINE)
    for command in commands:
        arguments = shlex.split(command.replace("\\\n", " "))[1:]
        parsed = options.parse_args_and_arch(options.get_generation_parser(default_task="birq_asr"), arguments)
        assert parsed.task == "birq_asr" and parsed.scoring == "wer"
        assert parsed.decoder in ("auto", "lexicon") and (parsed.lexicon is not None) == (
            parsed.kenlm is not None and parsed.lm_weight > 0
        )
    assert len(commands) >= 4
