"""What holds for every command: the version, users without a home, terminals without UTF-8."""

import io
import subprocess
import sys
from itertools import pairwise

import pytest
from typer.testing import CliRunner

from stepup.cli.demo.stage import console_on, is_shown
from stepup.cli.main import app
from stepup.rpc.wire import qr
from stepup.system.distribution import version

# As a container's random user: it has no HOME, and no entry among the users.
WITHOUT_HOME = """
import os, pwd
def getpwuid(uid): raise KeyError(uid)
pwd.getpwuid = getpwuid
os.environ.pop("HOME", None)
from stepup.__main__ import main
main()
"""


def test_the_version_is_that_of_the_distribution():
    shown = CliRunner().invoke(app, ["--version"])
    assert (shown.exit_code, shown.stdout) == (0, f"stepup-authz {version()}\n")


@pytest.mark.parametrize("command", [("audit", "prune"), ("ctl", "people", "import")])
def test_the_paragraphs_of_a_help_have_no_lines_of_a_few_words(command):
    shown = CliRunner().invoke(app, [*command, "--help"], terminal_width=80)
    lines = [line.strip() for line in shown.stdout.partition("Options")[0].splitlines()]
    followed = [line for line, after in pairwise(lines) if line and after]
    assert len(followed) > 3
    assert [line for line in followed if len(line) < 60 and line[0].isalpha()] == []


@pytest.mark.parametrize("command", [("serve", "--insecure"), ("check-config",), ("migrate",)])
def test_an_empty_name_of_the_configuration_file_is_not_none(command):
    refused = CliRunner().invoke(app, command, env={"STEPUP_CONFIG": ""})
    assert (refused.exit_code, refused.stderr) == (
        2,
        "stepup: STEPUP_CONFIG: must be a path, and is empty\n",
    )


def test_an_empty_data_directory_is_not_the_current_one():
    refused = CliRunner().invoke(app, ["check-config", "--data-dir", ""])
    assert refused.exit_code == 2
    assert refused.stderr == "stepup: storage.data_dir: must be a path, and is empty\n"


def without_home(directory, *command, **settings):
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_HOME, *command],
        cwd=directory,
        env=settings,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize("command", [("migrate",), ("keys", "status")])
def test_a_user_without_a_home_is_told_which_setting_is_needed(tmp_path, command):
    refused = without_home(tmp_path, *command)
    assert refused.returncode == 2
    assert refused.stderr == (
        "stepup: storage.data_dir: must be set, because this user has no home directory\n"
    )
    assert not list(tmp_path.iterdir())


def test_a_user_without_a_home_needs_none_where_the_directory_is_set(tmp_path):
    done = without_home(tmp_path, "migrate", STEPUP_STORAGE__DATA_DIR="data")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data" / "stepup.db").exists()


@pytest.mark.parametrize(
    ("encoding", "shown"), [("ascii", "-> a <- b...?"), ("utf-8", "→ a ← b…█")]
)
def test_the_demo_says_what_it_says_on_every_terminal(encoding, shown):
    octets = io.BytesIO()
    stream = io.TextIOWrapper(octets, encoding=encoding)
    console = console_on(stream)
    console.print("→ a ← b…█")
    stream.flush()
    assert octets.getvalue().decode(encoding) == f"{shown}\n"
    assert is_shown(console, qr.terminal("otpauth://totp/x?secret=A")) == (encoding == "utf-8")
