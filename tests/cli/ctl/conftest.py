import asyncio

import pytest
from stepup_tests.fixtures import clock, running, template, worker, world
from structlog.testing import capture_logs
from typer.testing import CliRunner

from stepup.cli.main import app

__all__ = ["clock", "running", "template", "worker", "world"]

ACTOR = ("--tenant", "acme", "--operator", "sam", "--reason", "ticket 4711")


@pytest.fixture(autouse=True)
def _no_profile_of_this_user(monkeypatch, tmp_path):
    monkeypatch.setenv("STEPUP_CTL_CONFIG", str(tmp_path / "ctl.toml"))


@pytest.fixture(autouse=True)
def _server_logs_nothing():
    """The server is in this process, whose output belongs to the command."""
    with capture_logs():
        yield


@pytest.fixture
def ctl(running):
    """Runs `stepup ctl` for the operator sam in the business acme."""

    async def ctl(*arguments, typed=None, actor=ACTOR):
        connection = ("--address", running.target, "--insecure", *actor)
        command = ["ctl", *arguments, *connection]
        return await asyncio.to_thread(CliRunner().invoke, app, command, input=typed)

    return ctl
