"""Hooks of mkdocs (`make docs`): which pages the site has, and one page of functions and classes for each folder of the package.

The site shows the repository's pages where they lie, so that their links work on the site and in the repository alike.
Docstrings are read from the source: the package is not imported, and neither torch nor fairseq is needed.
"""

from pathlib import Path

from mkdocs.structure.files import File

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "CITATION.cff", "docs", "examples", "manifests")
TITLES = {
    "objective": "Objective: quantizer, losses, masking",
    "targets": "Target sources",
    "frontends": "Frontends",
    "encoders": "Encoders",
    "data": "Data",
    "decoding": "Decoding",
    "measures": "Measures",
    "corpora": "Corpora",
}
MODULES = ("structs", "checkpoint", "config", "errors")  # of the ground floor


def on_config(config):
    """Links to the pages, in a folder of their own; the entry `Python` of the menu."""
    staged = Path(config["docs_dir"])
    for name in PAGES:
        link = staged / name
        if not link.is_symlink() and (REPOSITORY / name).exists():
            link.symlink_to(REPOSITORY / name)
    entry = next(part for part in config["nav"] if "Python" in part)
    entry["Python"] = [{"Ground floor": "python/index.md"}]
    entry["Python"] += [{title: f"python/{folder}.md"} for folder, title in TITLES.items()]
    return config


def on_files(files, config):
    """A page for each folder, with its modules in alphabetical order."""
    pages = {"index": ("Ground floor: results, checkpoints, settings, errors", [f"fairseq_birq.{module}" for module in MODULES])}
    pages.update({folder: (title, modules(folder)) for folder, title in TITLES.items()})
    for name, (title, names) in pages.items():
        text = "\n\n".join([f"# {title}", *(f"::: {module}" for module in names)])
        files.append(File.generated(config, f"python/{name}.md", content=text + "\n"))
    return files


def modules(folder):
    paths = sorted((REPOSITORY / "fairseq_birq" / folder).glob("[a-z]*.py"))
    return [f"fairseq_birq.{folder}.{path.stem}" for path in paths]
