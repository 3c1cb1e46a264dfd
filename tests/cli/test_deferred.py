"""A command imports what it needs itself, and nothing of the other commands."""

import os
import subprocess
import sys

import pytest
import typer.main

from stepup.cli.main import app

PROGRAM = """
import atexit, sys
from stepup.__main__ import main
atexit.register(lambda: print(*sys.modules, sep="\\n", file=sys.stderr))
sys.argv[0] = "stepup"
main()
"""
OF_SERVERS = {
    *("cryptography", "prometheus_client", "redis", "sqlalchemy", "structlog"),
    *("stepup.process", "stepup.service", "stepup.settings", "stepup.stores", "stepup.wiring"),
}
OF_CLIENTS = {"grpc", "stepup.client"}
OF_ANALYSIS = {"altair", "duckdb"}
NOTHING = OF_SERVERS | OF_CLIENTS | OF_ANALYSIS
COMPLETION = {"_STEPUP_COMPLETE": "complete_bash", "COMP_WORDS": "stepup ctl ", "COMP_CWORD": "2"}


def imported(*command, **environment):
    """The modules that a command imports, and its output."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, *command],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return set(ended.stderr.splitlines()), ended.stdout


@pytest.mark.parametrize(
    ("command", "its_own", "others"),
    [
        ("--help", "typer.rich_utils", NOTHING | {"stepup.cli.ctl", "stepup.cli.options"}),
        ("ctl policy --help", "stepup.cli.ctl.policy.commands", NOTHING),
        (
            "ctl policy show --insecure --tenant acme --address unix:/none",
            "stepup.client",
            OF_SERVERS | OF_ANALYSIS,
        ),
        ("decisions stats /dev/null", "duckdb", OF_SERVERS | OF_CLIENTS),
        ("coverage --help", "stepup.cli.coverage.command", NOTHING),
        ("policy simulate --help", "stepup.cli.policy.commands", NOTHING),
        (
            "serve --listen nowhere",
            "stepup.wiring.server",
            OF_ANALYSIS | {"rich", "stepup.cli.ctl", "stepup.client", "stepup.web"},
        ),
    ],
)
def test_a_command_imports_what_it_needs_itself(command, its_own, others):
    modules, _ = imported(*command.split())
    assert its_own in modules
    assert not modules & others


def test_a_completion_imports_nothing_that_calls_a_server():
    modules, completions = imported(**COMPLETION)
    assert "people" in completions.split()
    assert not modules & NOTHING


def test_a_group_lists_each_command_with_its_own_first_paragraph():
    listed = typer.main.get_command(app).commands.values()
    paragraphs = {each.name: each.loaded.help.partition("\n\n")[0] for each in listed}
    assert {each.name: each.help for each in listed} == {
        name: paragraph.replace("\n", " ") for name, paragraph in paragraphs.items()
    }
