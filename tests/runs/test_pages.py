"""What the pages say exists: links, anchors, files, options of the commands, keys of the configuration."""

import argparse
import importlib
import re
import shlex

import pytest
import yaml

FOLDERS = ("docs", "examples", "manifests")
OF_FAIRSEQ2 = [f"model.{key}" for key in ("arch", "compile", "config_overrides", "dtype", "family", "name", "path")]
SECTIONS = {"task": ["birq_pretraining", "birq_asr"], "model": ["birq", "birq_ctc"], "criterion": ["birq", "birq_ctc"]}


def pages(repository):
    found = [*repository.glob("*.md"), *(page for folder in FOLDERS for page in (repository / folder).rglob("*.md"))]
    assert len(found) > 15
    return found


def prose(page):
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page):
    """Of the headings, as GitHub and mkdocs make them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_the_front_page_can_be_read_to_the_end(repository):
    assert len((repository / "README.md").read_text().splitlines()) <= 150


def test_every_link_leads_to_a_file_and_every_anchor_to_a_heading(repository):
    dead = []
    for page in pages(repository):
        for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            if not link.startswith("http") and (not target.is_file() or anchor and anchor not in anchors(target)):
                dead.append(f"{page.relative_to(repository)}: {link}")
    assert dead == []


def test_every_page_of_docs_is_in_the_index_and_in_the_site(repository):
    index, site = (repository / "docs" / "index.md").read_text(), (repository / "mkdocs.yml").read_text()
    names = {page.name for page in (repository / "docs").glob("*.md")} - {"index.md"}
    assert {name for name in names if f"]({name})" not in index} == set()
    assert {name for name in names if f"docs/{name}" not in site} == set()


def test_files_that_pages_name_exist(repository):
    pattern = re.compile(r"(?<![\w/.~$])((?:benchmarks|examples|experiments|fairseq_birq|manifests|tests)/[\w./-]*\w)")
    missing, seen = [], 0
    for page in pages(repository):
        if page.name != "CHANGELOG.md":  # has the names of earlier versions
            for name in pattern.findall(page.read_text().replace("/<", "/ ")):
                seen += 1
                missing += [] if (repository / name).exists() else [f"{page.relative_to(repository)}: {name}"]
    assert missing == [] and seen > 50


def commands(page):
    """Commands of ours in the blocks of a page and in its backticks, as lists of words."""
    lines = re.sub(r"\\\n", " ", page.read_text())
    found = re.findall(r"^ *(?:\$ )?(birq-[a-z]+ .*)$", lines, re.MULTILINE) + re.findall(r"`(birq-[a-z]+ [^`]*)`", lines)
    return [shlex.split(command.replace("…", ""), comments=True) for command in found]


def help_of(words, capsys):
    """What the command prints for --help, with that of the subcommand that its first word names."""
    text = ""
    for arguments in (["--help"], [words[1], "--help"] if len(words) > 1 and re.fullmatch(r"[\w-]+", words[1]) else ["--help"]):
        with pytest.raises(SystemExit):
            importlib.import_module(f"fairseq_birq.cli.{words[0].split('-')[1]}").main(arguments)
        text += capsys.readouterr().out
    return text


def test_commands_have_the_options_that_pages_give_them(repository, capsys):
    seen, unknown = set(), []
    for page in pages(repository):
        for words in commands(page):
            if words[0] == "birq-doctor" or "KIND" in words:  # takes those of fairseq-hydra-train; `birq-plot KIND`
                continue
            text = help_of(words, capsys)
            seen.add(words[0])
            options = [word.split("=")[0] for word in words if word.startswith("--")]
            unknown += [f"{page.name}: {words[0]} {option}" for option in options if not re.search(rf"{option}\b", text)]
    assert unknown == []
    assert seen >= {"birq-manifest", "birq-labels", "birq-audit", "birq-probe", "birq-report"}


def known_keys():
    """Dotted names of all settings of our tasks, models and criteria; a dictionary's keys are free."""
    from fairseq import utils
    from fairseq.criterions import CRITERION_DATACLASS_REGISTRY
    from fairseq.models import MODEL_DATACLASS_REGISTRY
    from fairseq.tasks import TASK_DATACLASS_REGISTRY
    from omegaconf import OmegaConf

    utils.import_user_module(argparse.Namespace(user_dir="fairseq_birq"))
    registries = {"task": TASK_DATACLASS_REGISTRY, "model": MODEL_DATACLASS_REGISTRY, "criterion": CRITERION_DATACLASS_REGISTRY}
    keys = set()
    for section, names in SECTIONS.items():
        for name in names:
            settings = OmegaConf.to_container(OmegaConf.structured(registries[section][name]))
            keys |= set(leaves(settings, section))
    return keys


def leaves(settings, prefix):
    for key, value in settings.items():
        yield f"{prefix}.{key}"
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}.{key}")


def test_settings_that_pages_name_exist(repository, monkeypatch):
    monkeypatch.chdir(repository)
    keys, unknown, seen = known_keys(), [], 0
    free = ("task.x", "task.corpora.", "criterion.weights.", "criterion.warmup_updates.", "criterion.start_updates.")
    for page in pages(repository):
        for name in re.findall(r"(?<![\w.])((?:task|model|criterion)(?:\.[a-z_]+)+)(?![\w(])", page.read_text()):
            seen += 1
            name = name.replace("model.config_overrides.", "model.")  # fairseq2's place for our settings
            if (
                name not in keys
                and name not in OF_FAIRSEQ2
                and not name.startswith(free)
                and not name.endswith((".py", ".pt", ".yaml"))
            ):
                unknown.append(f"{page.relative_to(repository)}: {name}")
    assert unknown == [] and seen > 40


def test_a_recipe_begins_with_its_launch_command_and_says_what_it_reproduces(repository):
    recipes = [path for path in (repository / "examples").glob("*/*.yaml") if "task" in yaml.safe_load(path.read_text())]
    for path in recipes:
        header = re.match(r"(?:#.*\n)+", path.read_text()).group()
        command = re.sub(r" \\\n# +", " ", header)
        launch = rf"^#   .*fairseq-hydra-train\)? --config-dir examples/{path.parent.name} --config-name {path.stem} "
        assert re.search(launch, command, re.MULTILINE), path
        assert re.search(r"^# Reproduces: \S", header, re.MULTILINE), path
    assert len(recipes) > 20
