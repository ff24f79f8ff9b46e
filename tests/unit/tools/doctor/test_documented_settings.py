"""Every setting that a page or a message names can be set as written, without a plus, in every recipe that it belongs to."""

import dataclasses
import re

import pytest
import yaml

from fairseq_birq import config
from fairseq_birq.settings import MISSING
from fairseq_birq.tools.doctor.config import check_config, find_yaml

SETTINGS = {
    "task": {"birq_pretraining": config.PretrainingTaskConfig, "birq_asr": config.AsrTaskConfig},
    "model": {"birq": config.BirqConfig, "birq_ctc": config.BirqCtcConfig},
    "criterion": {"birq": config.BirqCriterionConfig, "birq_ctc": config.BirqCtcCriterionConfig},
    "lr_scheduler": {"birq_stages": config.StageScheduleConfig},
}
GIVEN = {"task.data": "/data", "checkpoint.save_dir": "/runs", "common.user_dir": "/fairseq_birq"}


def recipes(repository):
    paths = sorted((repository / "examples").glob("*/*.yaml"))
    read = {path: yaml.safe_load(path.read_text()) for path in paths}
    return {path: recipe for path, recipe in read.items() if "model" in recipe and "task" in recipe}


def documented(repository):
    pages = [repository / "README.md", *(repository / "docs").glob("*.md"), *(repository / "examples").rglob("README.md")]
    pattern = re.compile(rf"(?<![+\w.])((?:{'|'.join(SETTINGS)})(?:\.[a-z_]+)+)")
    messages = re.compile(r"(?<![+\w.])(task(?:\.[a-z_]+)+)")
    code = [key for file in (repository / "fairseq_birq").rglob("*.py") for key in messages.findall(file.read_text())]
    return sorted({*code, *(key for page in pages for key in pattern.findall(page.read_text()))})


def default(config_class, names):
    """Of a setting that this class has, in a list; nothing for other names, groups of settings and those without a default."""
    known = {one.name: one for one in dataclasses.fields(config_class)}
    if names[0] not in known:
        return []
    one = known[names[0]]
    if dataclasses.is_dataclass(one.type):
        return default(one.type, names[1:]) if len(names) > 1 else []
    value = one.default if one.default is not dataclasses.MISSING else one.default_factory()
    return [] if len(names) > 1 or value == MISSING else [value]


def wanted(recipe, keys):
    """Documented settings that belong to a recipe, with their defaults."""
    found = {}
    for key in keys:
        group, *names = key.split(".")
        used = recipe.get("model", {}).get("targets", {}).get("use", [])
        if names[0] == "targets" and len(names) > 2 and names[1] not in used:
            continue
        config_class = SETTINGS[group].get(recipe.get(group, {}).get("_name"))
        for value in default(config_class, names) if config_class else ():
            found[key] = value
    return found


def test_pages_name_settings_and_recipes_are_found(repository):
    keys = documented(repository)
    assert {"task.resume", "task.probe_every", "criterion.collapse_action", "model.block_mb"} <= set(keys)
    assert {"task.min_seconds", "task.frame_labels"} <= set(keys)  # of messages alone
    assert len(recipes(repository)) > 20
    assert wanted({"task": {"_name": "birq_asr"}}, keys)["task.resume"] == "auto"


def test_every_recipe_takes_them_all_as_written(repository):
    keys, refused = documented(repository), {}
    for path, recipe in recipes(repository).items():
        given = {**GIVEN, **wanted(recipe, keys)}
        overrides = [f"{key}={_written(value)}" for key, value in given.items()]
        cfg, checks = check_config(find_yaml(None, None, [str(path), *overrides]))
        if cfg is None:
            refused[f"{path.parent.name}/{path.stem}"] = [check.text for check in checks]
    assert not refused


@pytest.mark.parametrize("key", ["task.resume", "model.block_mb"])
def test_a_recipe_without_one_of_them_would_be_seen(repository, tmp_path, key):
    recipe = yaml.safe_load((repository / "examples" / "best_rq" / "debug.yaml").read_text())
    group, name = key.split(".")
    del recipe[group][name]
    (tmp_path / "debug.yaml").write_text(yaml.safe_dump(recipe))
    overrides = [*(f"{one}={value}" for one, value in GIVEN.items()), f"{key}=auto"]
    cfg, checks = check_config(find_yaml(None, None, [str(tmp_path / "debug.yaml"), *overrides]))
    assert cfg is None and any(f"+{key}=" in check.text for check in checks)


def _written(value) -> str:
    """As a command line says it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
