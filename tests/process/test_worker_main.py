"""A worker that serves has imported what it needs, and none of the packages of commands."""

import asyncio
import os
import subprocess
import sys

import pytest

from stepup.process.worker_main import WorkerOrder
from stepup.stores.sql import upgrade

PROGRAM = """
import atexit, os, sys
from stepup.__main__ import main
atexit.register(lambda: open(os.environ["MODULES"], "w").write("\\n".join(sys.modules)))
sys.argv[1:] = ["worker", sys.argv[1]]
main()
"""
UNUSED = {
    "alembic": "a schema that is up to date needs no migration",
    "mako": "as alembic",
    "opentelemetry": "no traces are configured",
    "psutil": "as opentelemetry",
    "pygments": "as rich",
    "rich": "a server's log has no colours",
    "stepup.cli": "a worker runs no command",
    "stepup.client": "a server calls no server",
    "typer": "as stepup.cli",
}


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """The modules that a worker on the embedded stores has imported when it has served."""
    directory = tmp_path_factory.mktemp("worker")
    asyncio.run(upgrade(f"sqlite:///{directory / 'stepup.db'}"))
    reading, writing = os.pipe()
    flags = {
        "server": {"listen": "127.0.0.1:0", "insecure": True, "workers": 2, "drain_seconds": 0},
        "storage": {"data_dir": str(directory)},
    }
    order = WorkerOrder(None, flags, writing).encode()
    environment = os.environ | {"MODULES": str(directory / "modules")}
    command = [sys.executable, "-c", PROGRAM, order]
    with subprocess.Popen(command, pass_fds=(writing,), env=environment) as worker:
        os.close(writing)
        with os.fdopen(reading, "rb", buffering=0) as reports:
            assert reports.read(1), "the worker has ended before it served"
            worker.terminate()
            assert worker.wait(20) == 0
    return set((directory / "modules").read_text().splitlines())


@pytest.mark.parametrize("name", UNUSED)
def test_a_serving_worker_has_not_imported(name, modules):
    assert "stepup.rpc.server.server" in modules
    assert name not in modules, UNUSED[name]
