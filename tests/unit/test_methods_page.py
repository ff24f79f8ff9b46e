"""docs/methods.md names functions that exist, and every part of the papers that it promises."""

import ast
import re

import pytest

REFERENCE = re.compile(r"`([\w/]+\.py):([\w.]+)`")
MUST_NAME = [  # one for each equation that a reader comes for
    "objective/quantizer.py:RandomProjectionQuantizer.nearest",
    "objective/losses.py:F",
    "objective/losses.py:G",
    "objective/losses.py:penalty_form",
    "objective/soft_codes.py:SoftCodes.labels",
    "training/stages.py:begin_stages",
]


def names_in(path):
    """Functions and classes of a file, and the methods of its classes as `Class.method`."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found.update(f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef))
    return found


def missing(text, package):
    """What a page names and the package has not."""
    references = sorted({match.groups() for match in REFERENCE.finditer(text)})
    files = {file: names_in(package / file) for file in {file for file, _ in references} if (package / file).is_file()}
    return [f"{file}:{name}" for file, name in references if name not in files.get(file, ())]


@pytest.fixture
def page(repository):
    return (repository / "docs" / "methods.md").read_text()


def test_every_function_that_the_page_names_exists(page, repository):
    assert len(REFERENCE.findall(page)) > 30
    assert missing(page, repository / "fairseq_birq") == []


def test_a_name_that_does_not_exist_is_found(repository):
    text = "`objective/losses.py:G` `objective/losses.py:H` `objective/lost.py:G` `objective/soft_codes.py:SoftCodes.lost`"
    found = missing(text, repository / "fairseq_birq")
    assert found == ["objective/losses.py:H", "objective/lost.py:G", "objective/soft_codes.py:SoftCodes.lost"]


def test_the_equations_of_the_papers_are_on_the_page(page):
    named = {":".join(reference) for reference in REFERENCE.findall(page)}
    assert [name for name in MUST_NAME if name not in named] == []
    assert "Eq. 8" in page and "Eq. 9" in page and "Algorithm 1" in page


def test_links_lead_to_files(page, repository):
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", page) if not target.startswith("http")]
    assert targets and [target for target in targets if not (repository / "docs" / target).exists()] == []
