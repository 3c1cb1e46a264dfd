"""docs/commands.md names every command, and its examples are valid."""

import ast
import inspect
import re
import tomllib
from pathlib import Path

import pytest
import typer.main
from stepup_tests.places import ROOT

from stepup.cli import ctl
from stepup.cli.ctl.profiles import read_profiles
from stepup.cli.main import app
from stepup.client import StepUpClient, rpcs

PAGE = (ROOT / "docs/commands.md").read_text("utf-8")
FLAGS = re.MULTILINE | re.DOTALL
[PROFILES] = re.findall(r"^```toml\n(.*?)^```", PAGE, FLAGS)


def commands(command, *names):
    """The full names of the commands of a group."""
    command = getattr(command, "loaded", command)  # imports it
    if members := getattr(command, "commands", None):
        for name, member in members.items():
            yield from commands(member, *names, name)
    else:
        yield " ".join(names)


def test_the_table_has_every_command_once():
    listed = re.findall(r"^\| `(stepup [^`]+)` \|", PAGE, re.MULTILINE)
    assert sorted(listed) == sorted(commands(typer.main.get_command(app), "stepup"))


def test_the_profiles_of_the_page_are_valid(tmp_path):
    file = tmp_path / "ctl.toml"
    file.write_text(PROFILES, "utf-8")
    profiles = read_profiles(file)
    assert profiles.default == "production"
    assert set(profiles.by_name) == {"production", "trial", "development"}


def documented_rules(page):
    """The rules of the caller `sam` in the configuration that a page shows."""
    found = re.findall(
        r"^\[\[callers\]\]\nname = \"sam\".*?(?=^\[\[callers\]\]|^```|^END)", page, FLAGS
    )
    [caller] = tomllib.loads("\n".join(found))["callers"]
    return caller["rules"]


def methods_that_ctl_calls():
    """Such as `PolicyService/GetPolicy`: each method of the client that the commands name."""
    with StepUpClient("127.0.0.1:1") as client:
        for file in Path(ctl.__file__).parent.rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                name = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
                found = re.fullmatch(r"(?:\w+\.)*?client\.(\w+)(?:\.(\w+))?", name)
                owner = getattr(client, found[1], None) if found else None
                method = getattr(owner, found[2], None) if found and found[2] else owner
                if inspect.ismethod(method):
                    for rpc in re.findall(r"rpcs\.([A-Z_]+)", inspect.getsource(method)):
                        yield getattr(rpcs, rpc).path.removeprefix("/stepup.v1.")


@pytest.mark.parametrize("page", ["operating.md", "production.md"])
def test_the_documented_operator_may_call_exactly_the_methods_of_ctl(page):
    [rule] = documented_rules((ROOT / "docs" / page).read_text("utf-8"))
    assert sorted(rule["methods"]) == sorted(set(methods_that_ctl_calls()))
    assert (rule["operations"], rule["claims"]) == (["*"], ["operator"])
