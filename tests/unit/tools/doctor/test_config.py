import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fairseq_birq.errors import UserError
from fairseq_birq.tools.doctor.config import check_config, find_yaml

GIVEN = ["common.user_dir=/birq", "task.data=/data", "checkpoint.save_dir=/run"]


def examine(path, *overrides):
    """(config, lines) of a YAML with overrides."""
    cfg, checks = check_config(find_yaml(None, None, [str(path), *overrides]))
    return cfg, [check.line() for check in checks]


@pytest.fixture
def debug(repository):
    return repository / "examples" / "best_rq" / "debug.yaml"


@pytest.fixture
def edited(debug, tmp_path):
    """Writes the debug recipe with other settings; returns its path."""

    def write(**parts):
        settings = yaml.safe_load(debug.read_text())
        for part, inner in parts.items():
            settings.setdefault(part, {}).update(inner)
        path = tmp_path / "edited.yaml"
        path.write_text(yaml.safe_dump(settings))
        return path

    return write


@pytest.mark.parametrize("name", ["finetune/mboshi_small", "latent_rq/debug", "relabelling/debug"])
def test_recipes_compose_with_what_their_readme_gives(repository, name):
    path = repository / "examples" / f"{name}.yaml"
    labels = ["model.targets.label_file.path=/labels"] if name.startswith("relabelling") else []
    pretrained = ["model.pretrained_path=/checkpoint.pt"] if name.startswith("finetune") else []
    cfg, lines = examine(path, *GIVEN, *labels, *pretrained)
    assert cfg is not None and len(lines) == 1 and lines[0].startswith("ok"), lines


def test_all_unknown_keys_are_named_with_the_nearest_one(edited):
    path = edited(model={"encodr": {"dim": 3}}, common={"sed": 1}, comon={"seed": 1})
    cfg, lines = examine(path, *GIVEN, "model.encoder.dimm=4", "+task.max_secnds=3")
    expected = {"model.encodr": "encoder", "common.sed": "seed", "comon": "common"}
    expected.update({"model.encoder.dimm": "dim", "task.max_secnds": "max_seconds"})
    assert cfg is None
    named = {line.split("`")[1]: line.split("`")[3] for line in lines}
    assert named == expected and all("is unknown; did you mean" in line for line in lines)


def test_an_unknown_name_of_a_part_is_one_line(edited):
    _, lines = examine(edited(lr_scheduler={"_name": "polynomial_decai"}), *GIVEN)
    assert len(lines) == 1 and "did you mean `polynomial_decay`?" in lines[0]


def test_a_known_key_that_the_yaml_lacks_wants_a_plus_as_hydra_says(debug):
    cfg, lines = examine(debug, *GIVEN, "model.encoder.conv_norm=batch", "model.frontend.num_mels=40")
    assert cfg is None and len(lines) == 2 and "+model.encoder.conv_norm=" in lines[0] and "+model.frontend.num_mels=" in lines[1]
    cfg, lines = examine(debug, *GIVEN, "+model.encoder.conv_norm=batch", "common.fp16=true")
    assert lines[0].startswith("ok") and cfg.model.encoder.conv_norm == "batch" and cfg.common.fp16 is True


def test_missing_values_are_named_even_where_fairseq_has_a_default(debug):
    cfg, lines = examine(debug, "task.data=/data")
    assert cfg is None and [line.split("`")[1] for line in lines] == ["checkpoint.save_dir", "common.user_dir"]


@pytest.mark.parametrize("override, part", [("optimization.max_update=abc", "'abc'"), ("+model.encoder.dropout=0", "already")])
def test_what_hydra_refuses_is_one_line(debug, override, part):
    cfg, lines = examine(debug, *GIVEN, override)
    assert cfg is None and len(lines) == 1 and lines[0].startswith("problem") and part in lines[0]


def test_composes_what_fairseq_hydra_train_composes(debug, tmp_path):
    program = Path(sys.executable).parent / "fairseq-hydra-train"
    overrides = [*GIVEN, "model.encoder.dim=48", "+criterion.weights.raw_input=2.0"]
    command = [str(program), "--config-dir", str(debug.parent), "--config-name", "debug", *overrides, "--cfg", "job"]
    theirs = yaml.safe_load(subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout)
    cfg, _ = examine(debug, *overrides)
    for part in ("common", "dataset", "optimization", "checkpoint", "distributed_training"):
        expected = {key: value for key, value in theirs[part].items() if "${" not in str(value)}
        assert len(expected) > 10 and {key: cfg[part][key] for key in expected} == expected
    assert cfg.model.encoder.dim == theirs["model"]["encoder"]["dim"] == 48
    assert dict(cfg.criterion.weights) == {"raw_input": 2.0}


def test_a_yaml_is_named_by_folder_and_name_or_by_path(debug):
    by_name = find_yaml(str(debug.parent), "debug", ["a=1"])
    assert by_name == find_yaml(None, None, [str(debug), "a=1"]) and by_name.overrides == ["a=1"]
    with pytest.raises(UserError, match="no such configuration"):
        find_yaml(str(debug.parent), "debugg", [])
