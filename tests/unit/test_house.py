"""How the tests are laid out: fixtures are a library, and what the papers describe has a test file of its name."""

import re
from pathlib import Path

import fairseq_birq

PACKAGE = Path(fairseq_birq.__file__).parent
TESTS = Path(__file__).parent.parent
OF_A_METHOD = ("objective/*.py", "targets/*.py", "modules/*.py", "builders.py")
LONG = 60  # lines from which a module has a test file of its own
TESTED_ELSEWHERE = {  # module: the file that tests it
    "targets/__init__.py": "unit/targets/test_targets.py",  # the registry: its contract test
    "targets/base.py": "unit/targets/test_targets.py",  # the contract itself
}


def test_no_test_file_imports_a_different_one():
    imports = re.compile(
        r"^\s*(?:from|import)\s+tests\.(?!(?:fixtures|conftest)\b)|^\s*from\s+tests\s+import\s+(?!(?:fixtures|conftest)\b)|^\s*from\s+\.",
        re.M,
    )
    files = list(TESTS.rglob("*.py"))
    assert len(files) > 100
    assert [str(path.relative_to(TESTS)) for path in files if imports.search(path.read_text())] == []


def test_tests_are_in_the_four_folders_that_have_them():
    folders = {path.relative_to(TESTS).parts[0] for path in TESTS.rglob("test_*.py")}
    assert folders == {"unit", "runs", "pretend_gpu", "fairseq2"}  # the last two have a process of their own


def test_what_the_papers_describe_has_a_test_file_of_its_name():
    modules = [path for pattern in OF_A_METHOD for path in PACKAGE.glob(pattern)]
    long = {str(path.relative_to(PACKAGE)) for path in modules if len(path.read_text().splitlines()) >= LONG}
    assert len(long) > 10 and set(TESTED_ELSEWHERE) <= long
    for module in sorted(long):
        folder, name = module.rsplit("/", 1) if "/" in module else ("", module)
        place = TESTED_ELSEWHERE.get(module, f"unit/{folder}/test_{name}")
        assert (TESTS / place).is_file(), f"{module} has no tests/{place}"
