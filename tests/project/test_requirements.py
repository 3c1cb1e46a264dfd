"""docs/requirements.md and docs/threat-model.md name tests: they exist, and say what they are for.

Tests are found in the syntax of their files; nothing is imported or run for it.
"""

import ast
import re
from functools import cache

import pytest
from stepup_tests.places import ROOT

REQUIREMENTS = ROOT / "docs" / "requirements.md"
THREAT_MODEL = ROOT / "docs" / "threat-model.md"
OURS = [
    *(f"S{number}" for number in range(1, 23)),
    "S24",
    "S25",
    "S26",
    "S27",
    "S28",
    "S29",
    "S30",
]
WORDS = {"met", "in part", "integrator", "operator", "**not met**", "n/a"}
_NAME = re.compile(r"`(tests/[\w/]+\.py)::([\w:]+)`")
_NUMBERS = re.compile(r"\d+\.\d+\.\d+([–,] ?\d+\.\d+\.\d+)*|§\d+(\.\d+)+")  # noqa: RUF001  # ranges


def named(text):
    """The tests that a text names, as file and name."""
    return _NAME.findall(text)


def rows(text):
    """The cells of each row of each table of a text, without heads and rules."""
    without_anchors = re.sub(r"<a [^>]*></a>", "", text)
    lines = [line for line in without_anchors.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in lines]


def own_rows():
    """The rows of our own requirements, by id."""
    return [(row[0], row) for row in rows(REQUIREMENTS.read_text()) if row[0] in OURS]


def standard_rows():
    """The rows of the standards' requirements."""
    return [row for row in rows(REQUIREMENTS.read_text()) if _NUMBERS.fullmatch(row[0])]


@cache
def found_in(file):
    """The tests of a file by name, methods as `Class::method`, each with all that it says."""
    tree = ast.parse((ROOT / file).read_text())
    about = ast.get_docstring(tree) or ""
    found = {}
    for node in tree.body:
        members = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        for member in members:
            if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef):
                words = f"{member.name} {ast.get_docstring(member) or ''} {about}"
                found[prefix + member.name] = words
    return found


def missing(names):
    """Those of the names that are no tests."""
    return [
        f"{file}::{name}"
        for file, name in names
        if not (ROOT / file).is_file()
        or not name.rpartition("::")[2].startswith("test_")
        or name not in found_in(file)
    ]


def says(words, requirement):
    """Whether a test's name or docstrings have the id: `S1`, `test_s1_...`, and not S11 for S1."""
    return re.search(rf"(?<![A-Za-z0-9]){requirement}(?![0-9])", words, re.IGNORECASE) is not None


@pytest.mark.parametrize("document", [REQUIREMENTS, THREAT_MODEL], ids=lambda path: path.stem)
def test_every_test_that_is_named_exists(document):
    names = named(document.read_text())
    assert names
    assert not missing(names)


def test_everything_that_looks_like_a_test_is_checked():
    for document in (REQUIREMENTS, THREAT_MODEL):
        text = document.read_text()
        assert len(named(text)) == text.count(".py::")


def test_every_requirement_of_ours_has_one_row_in_order():
    assert [requirement for requirement, _ in own_rows()] == OURS


@pytest.mark.parametrize("requirement", OURS)
def test_the_tests_of_a_requirement_name_it(requirement):
    [row] = [row for found, row in own_rows() if found == requirement]
    names = named(row[-1])
    assert names
    silent = [
        f"{file}::{name}" for file, name in names if not says(found_in(file)[name], requirement)
    ]
    assert not silent


def test_every_row_of_a_standard_says_whether_it_is_met():
    found = standard_rows()
    assert {len(row) for row in found} == {5}
    assert {row[2] for row in found} == WORDS


def test_what_is_met_is_shown_by_a_test_or_said_where():
    unproven = [row[0] for row in standard_rows() if row[2] == "met" and not row[4] and not row[3]]
    assert not unproven


def test_no_requirement_of_a_standard_stands_twice():
    numbers = [row[0] for row in standard_rows() if not row[0].startswith("§")]
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize(
    "name",
    [
        ("tests/test_nowhere.py", "test_x"),
        ("tests/project/test_requirements.py", "test_x"),
        ("tests/project/test_requirements.py", "says"),
    ],
)
def test_what_is_no_test_is_missed(name):
    assert missing([name]) == ["::".join(name)]


@pytest.mark.parametrize(
    ("words", "is_said"),
    [
        ("test_s1_a_code", True),
        ("What it is (S1, S2).", True),
        ("test_s11_a_code", False),
        ("(S18)", False),
        ("test_its1_x", False),
        ("", False),
    ],
)
def test_an_id_is_no_part_of_another(words, is_said):
    assert says(words, "S1") is is_said
