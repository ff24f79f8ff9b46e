"""The package's metadata, the pins and the Makefile agree with each other."""

import re
import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest

LISTS = ("main", "legacy", "fairseq2")


def pins(repository, name):
    """{package: version} of requirements/<name>.txt."""
    lines = (repository / "requirements" / f"{name}.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize("name", [*LISTS, "bench", "docs"])
def test_every_requirement_has_one_exact_version(repository, name):
    lines = (repository / "requirements" / f"{name}.txt").read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    assert wanted and all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line) for line in wanted)
    assert len({line.split("==")[0] for line in wanted}) == len(wanted)


def project(repository):
    """The `[project]` table of pyproject.toml; Python 3.9 and 3.10 have no tomllib."""
    tomllib = pytest.importorskip("tomllib")
    return tomllib.loads((repository / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("name, missing", [("main", ()), ("legacy", ("export", "parity", "lint"))])
def test_what_the_project_names_is_pinned(repository, name, missing):
    """Exports are not for Python 3.9 and 3.10: today's onnx does not fit the old fairseq's numpy."""
    table = project(repository)
    extras = table["optional-dependencies"]
    lists = [table["dependencies"], *(extras[extra] for extra in extras if extra not in missing)]
    named = {package for packages in lists for package in packages if not package.startswith("fairseq_birq[")}
    assert {"numpy", "soundfile", "flashlight-text", "pytest"} <= named and ("onnx" in named) == (not missing)
    assert named <= set(pins(repository, name))


def test_the_developers_extra_names_extras_that_exist(repository):
    extras = project(repository)["optional-dependencies"]
    (included,) = [re.fullmatch(r"fairseq_birq\[([a-z,]+)\]", package).group(1).split(",") for package in extras["dev"]]
    assert {"doors", "demo", "test"} <= set(included) <= set(extras)


def test_the_project_lets_pip_replace_neither_torch_nor_fairseq(repository):
    table = project(repository)
    named = [*table["dependencies"], *(package for extra in table["optional-dependencies"].values() for package in extra)]
    assert [name for name in named if re.match(r"(torch|torchaudio|fairseq|fairseq-fixed)\b(?!_)", name)] == []
    assert "omegaconf" not in table["dependencies"] and "espeakng-loader" not in table["dependencies"]


def test_there_is_one_version(repository):
    (version,) = re.findall(
        r'^__version__ = "([\d.]+)"$', (repository / "fairseq_birq" / "__init__.py").read_text(), re.MULTILINE
    )
    assert f"\nversion: {version}\n" in (repository / "CITATION.cff").read_text()
    assert f"\n## [{version}]" in (repository / "CHANGELOG.md").read_text()
    assert "version" in project(repository)["dynamic"]


def test_the_commit_hook_has_the_pinned_ruff(repository):
    hook = (repository / ".pre-commit-config.yaml").read_text()
    assert re.findall(r"rev: v([\d.]+)", hook) == [pins(repository, "main")["ruff"]]


@pytest.fixture(scope="module")
def installed(repository, tmp_path_factory):
    """A folder with the package's wheel and what this environment has, without fairseq and what comes with it alone."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(repository / "fairseq_birq", source / "fairseq_birq", ignore=ignored)
    shutil.copytree(repository / "manifests", source / "manifests", ignore=ignored)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(repository / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), "."]
    subprocess.run([*pip, *build], cwd=source, check=True)
    (wheel,) = folder.glob("*.whl")
    site = folder / "site"
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", str(site), str(wheel)], check=True)
    without = re.compile(r"fairseq|__editable__|hydra|omegaconf|antlr4|sacrebleu|.*\.pth$|__pycache__|bin$")
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not without.match(path.name):
            (site / path.name).symlink_to(path)
    return site


def run_without_fairseq(site, script):
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(site)!r})\n{script}"]
    return subprocess.run(command, cwd=site, capture_output=True, text=True)


def test_the_wheel_has_what_is_no_python_file_too(installed):
    package = installed / "fairseq_birq"
    assert (package / "py.typed").exists() and (package / "tools" / "report" / "style.css").exists()
    assert len(list((package / "tools" / "report" / "reference_curves").glob("*.json"))) >= 4
    (information,) = installed.glob("fairseq_birq-*.dist-info")
    assert "MIT License" in (information / "licenses" / "LICENSE").read_text()
    assert not (installed / "tests").exists() and not (installed / "experiments").exists()


def test_the_wheel_has_the_split_lists(installed, repository):
    lists = [path for path in (repository / "manifests").glob("*/*") if path.suffix in (".txt", ".tsv")]
    assert len(lists) >= 7
    for path in lists:
        copy = installed / "fairseq_birq" / "corpora" / "lists" / path.parent.name / path.name
        assert copy.read_bytes() == path.read_bytes()


def test_there_is_no_fairseq_beside_the_wheel(installed):
    assert "No module named 'fairseq'" in run_without_fairseq(installed, "import fairseq").stderr


def test_the_wheel_imports_without_fairseq(installed):
    script = """
import torch
import fairseq_birq
from fairseq_birq import load_encoder
from fairseq_birq.objective.quantizer import RandomProjectionQuantizer
codes = RandomProjectionQuantizer(input_dim=320, codebook_size=64, num_codebooks=2).nearest(torch.randn(5, 320))
print(fairseq_birq.__file__, fairseq_birq.__version__, tuple(codes.shape), "omegaconf" in sys.modules)
"""
    done = run_without_fairseq(installed, script)
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.fullmatch(rf"{re.escape(str(installed))}/fairseq_birq/__init__.py [\d.]+ \(5, 2\) False\n", done.stdout)


def test_no_file_imports_torchaudio(repository):
    folders = [repository / name for name in ("fairseq_birq", "tests", "benchmarks", "experiments", "examples")]
    files = [path for folder in folders for path in folder.rglob("*.py")]
    assert files
    importing = [path for path in files if re.search(r"^\s*(import|from) torchaudio", path.read_text(), re.MULTILINE)]
    assert importing == []


@pytest.mark.parametrize(
    "target", ["env", "demo", "test", "test-legacy", "test-fairseq2", "lint", "check", "docs", "bench", "clean"]
)
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
    (copy / "pyproject.toml").write_text("")
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
    scripts = re.findall(
        r'^(birq-\w+) = "fairseq_birq[.]cli[.](\w+):(?:main|command)"', (repository / "pyproject.toml").read_text(), re.MULTILINE
    )
    files = sorted((repository / "fairseq_birq" / "cli").glob("[a-z]*.py"))
    assert sorted(scripts) == [(f"birq-{path.stem}", path.stem) for path in files]
    assert files and all("def main(" in path.read_text() for path in files)
