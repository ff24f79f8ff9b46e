"""The run's settings and its environment, as far as its files tell."""

import platform
from importlib import metadata
from typing import List
from xml.etree.ElementTree import Element

from fairseq_birq.tools.report.html import missing, node, section
from fairseq_birq.tools.report.run import Run

_GROUPS = ("task", "model", "criterion", "optimizer", "lr_scheduler", "optimization", "dataset", "checkpoint",
           "distributed_training", "common")  # fmt: skip
_PACKAGES = ("fairseq_birq", "torch", "fairseq-fixed", "fairseq", "numpy", "matplotlib")


def settings_section(run: Run, differences: List[Element]) -> Element:
    """Every group of the checkpoint's configuration, folded; those that differ from the reference's above."""
    if not run.settings:
        return section("settings", "Settings", missing("Settings are in the checkpoint, but there is none here", "RUN_DIR"))
    rest = {name: group for name, group in sorted(run.settings.items()) if name not in _GROUPS}
    groups = {**{name: run.settings.get(name) for name in _GROUPS}, "the rest": rest}
    parts = [node("details", node("summary", name), node("pre", yaml_of(group))) for name, group in groups.items() if group]
    return section("settings", "Settings", *differences, node("h3", f"All, from {run.checkpoint.name}"), *parts)


def yaml_of(group: dict) -> str:
    """A group of settings as YAML, as a recipe would say it."""
    from omegaconf import OmegaConf  # of fairseq, as the run itself

    return OmegaConf.to_yaml(OmegaConf.create({"group": group}))[len("group:\n") :]


def environment_section(run: Run) -> Element:
    """What the log says of the machine, and with which versions the report was made."""
    facts = [part for name, value in run.facts.items() for part in (node("dt", name), node("dd", value))]
    logs = ", ".join(_within(path, run.folder) for path in run.logs) or "no log"
    facts += [node("dt", "read from"), node("dd", logs)]
    versions = [f"Python {platform.python_version()}", *(f"{name} {version}" for name, version in _versions())]
    return section(
        "environment",
        "Environment",
        node("dl", *facts),
        node("p", f"This report was made with {', '.join(versions)}.", class_="note"),
    )


def _within(path, folder):
    try:
        return str(path.resolve().relative_to(folder.resolve()))
    except ValueError:
        return str(path)


def _versions():
    for name in _PACKAGES:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
