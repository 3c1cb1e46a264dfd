"""The examples are short: somebody reads each of them in a few minutes."""

import ast

import pytest
from stepup_tests.places import ROOT

EXAMPLES = ROOT / "examples"
LANGUAGES = {".go", ".js", ".mjs", ".py", ".ts"}
PROGRAMS = [
    path for path in (*EXAMPLES.glob("*"), *EXAMPLES.glob("*/*")) if path.suffix in LANGUAGES
]
FOLDERS = sorted({path.parent for path in PROGRAMS} - {EXAMPLES})


def lines_of_code(path):
    """The number of lines without blank lines, comments and docstrings."""
    tree = ast.parse(path.read_text())
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        line
        for node in ast.walk(tree)
        if isinstance(node, documented) and ast.get_docstring(node)
        for line in range(node.body[0].lineno, node.body[0].end_lineno + 1)
    }
    return sum(
        bool(text.strip()) and not text.lstrip().startswith("#") and number not in docstrings
        for number, text in enumerate(path.read_text().splitlines(), 1)
    )


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_a_program_has_a_hundred_lines_at_most(path):
    assert len(path.read_text().splitlines()) <= 100


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_folder_has_a_readme_of_a_page_and_is_in_the_index(folder):
    assert 10 <= len((folder / "README.md").read_text().splitlines()) <= 25
    assert f"]({folder.name}/README.md)" in (EXAMPLES / "README.md").read_text()


def test_a_console_with_prompt_and_wizard_needs_45_lines():
    assert lines_of_code(EXAMPLES / "fastapi" / "console.py") <= 45


def test_an_interceptor_is_set_up_in_10_lines():
    """From the interceptor to the server that has it."""
    tree = ast.parse((EXAMPLES / "grpc_aio" / "server.py").read_text())
    made = {
        node.targets[0].id: node
        for function in tree.body
        if isinstance(function, ast.FunctionDef) and function.name == "server_with_guard"
        for node in function.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    assert made["server"].end_lineno - made["guard"].lineno + 1 <= 10
