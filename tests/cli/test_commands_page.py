"""docs/commands.md names every command, and its examples are valid."""

import re

import typer.main
from stepup_tests.places import ROOT
from typer.testing import CliRunner

from stepup.cli.ctl.profiles import read_profiles
from stepup.cli.main import app

PAGE = (ROOT / "docs/commands.md").read_text("utf-8")
CALLERS, PROFILES = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def commands(command, *names):
    """The full names of the commands of a group."""
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


def test_the_caller_of_the_page_may_change_a_policy_as_an_operator(tmp_path, monkeypatch):
    file = tmp_path / "stepup.toml"
    file.write_text(CALLERS, "utf-8")
    monkeypatch.setenv("STEPUP_TLS__CLIENT_CA", "ca.crt")
    monkeypatch.setenv("STEPUP_TLS__CERTIFICATE", "server.crt")
    monkeypatch.setenv("STEPUP_TLS__KEY", "server.key")
    question = ["--caller", "sam", "--method", "PolicyService/UpdatePolicy", "--tenant", "acme"]
    result = CliRunner().invoke(
        app, ["check-config", "--config", str(file), *question, "--claim", "operator"]
    )
    assert result.exit_code == 0, result.output
