"""The package's metadata, the pins and the Makefile agree with each other."""

import re
import subprocess
from importlib import metadata

import pytest

LISTS = ("main", "legacy")


def pins(repository, name):
    """{package: version} of requirements/<name>.txt."""
    lines = (repository / "requirements" / f"{name}.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize("name", [*LISTS, "bench"])
def test_every_requirement_has_one_exact_version(repository, name):
    lines = (repository / "requirements" / f"{name}.txt").read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    assert wanted and all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line) for line in wanted)
    assert len({line.split("==")[0] for line in wanted}) == len(wanted)


@pytest.mark.parametrize("name, more", [("main", "|EXPORT = |PARITY = "), ("legacy", "")])
def test_what_setup_names_is_pinned(repository, name, more):
    """Exports are not for Python 3.9 and 3.10: today's onnx does not fit the old fairseq's numpy."""
    setup = (repository / "setup.py").read_text()
    lists = re.findall(rf"(?:install_requires=|DECODE = |PLOT = |ALIGN = |DEV = .*?{more})\[([^\]]*)\]", setup)
    named = set(re.findall(r'"([a-z0-9-]+)"', " ".join(lists)))
    assert {"numpy", "soundfile", "flashlight-text", "pytest"} <= named and ("onnx" in named) == bool(more)
    assert named <= set(pins(repository, name))


def test_setup_lets_pip_replace_neither_torch_nor_fairseq(repository):
    setup = (repository / "setup.py").read_text().split('"""', 2)[2]
    assert re.findall(r'"(torch|torchaudio|fairseq|fairseq-fixed)\\b(?!_)[^"]*"', setup) == []


def test_no_file_imports_torchaudio(repository):
    folders = [repository / name for name in ("fairseq_birq", "tests", "benchmarks", "examples")]
    files = [path for folder in folders for path in folder.rglob("*.py")]
    assert files
    importing = [path for path in files if re.search(r"^\s*(import|from) torchaudio", path.read_text(), re.MULTILINE)]
    assert importing == []


@pytest.mark.parametrize("target", ["env", "demo", "test", "test-legacy", "lint", "bench", "clean"])
def test_make_knows_its_targets(repository, target):
    done = subprocess.run(["make", "-n", target], cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_make_env_refuses_another_python(repository, tmp_path):
    """A stand-in interpreter that is not 3.11 or 3.12: one clear line, nothing made."""
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "Makefile").write_text((repository / "Makefile").read_text())
    (copy / "requirements").mkdir()
    (copy / "requirements" / "main.txt").write_text("torch==1\n")
    (copy / "setup.py").write_text("")
    done = subprocess.run(["make", "env", "PYTHON=false"], cwd=copy, capture_output=True, text=True)
    assert done.returncode != 0
    assert "'false' is missing or is not Python 3.11 or 3.12" in done.stdout + done.stderr
    assert not (copy / ".venv").exists()


def test_installed_metadata_names_the_console_script():
    try:
        distribution = metadata.distribution("fairseq_birq")
    except metadata.PackageNotFoundError:
        pytest.skip("fairseq_birq is not installed here; make env installs it")
    scripts = {entry.name: entry.value for entry in distribution.entry_points if entry.group == "console_scripts"}
    assert scripts["birq-manifest"] == "fairseq_birq.cli.manifest:main"


def test_every_command_of_the_package_is_a_console_script(repository):
    scripts = re.findall(r'"(birq-\w+) = fairseq_birq[.]cli[.](\w+):main"', (repository / "setup.py").read_text())
    files = sorted((repository / "fairseq_birq" / "cli").glob("[a-z]*.py"))
    assert sorted(scripts) == [(f"birq-{path.stem}", path.stem) for path in files]
    assert files and all("def main(" in path.read_text() for path in files)
