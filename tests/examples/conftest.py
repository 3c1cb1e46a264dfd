"""A real server, and the programs of examples/ as modules."""

import importlib
import os
import socket
import subprocess
import sys
import uuid

import httpx
import pytest
from stepup_tests.e2e.processes import PROGRAMS, eventually
from stepup_tests.places import ROOT

from stepup.client import ActorContext
from stepup.client.testing import running_server

EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="session")
def portal_origin():
    """The address of the pages, where only `pages` serves them."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


@pytest.fixture(scope="session")
def stepup_server(portal_origin):
    with running_server(STEPUP_PORTAL__PUBLIC_URL=portal_origin) as server:
        yield server


@pytest.fixture(scope="session")
def pages(stepup_server, portal_origin, tmp_path_factory):
    """The real web process of the server."""
    settings = {
        "STEPUP_WEB_LISTEN": portal_origin.removeprefix("http://"),
        "STEPUP_WEB_CORE__TARGET": stepup_server.target,
        "STEPUP_WEB_LOG__LEVEL": "error",
    }
    process = subprocess.Popen(
        [PROGRAMS / "stepup", "web"], env=os.environ | settings, cwd=tmp_path_factory.mktemp("web")
    )

    def is_ready():
        try:
            return httpx.get(f"{portal_origin}/readyz").is_success
        except httpx.ConnectError:
            return False

    try:
        eventually(is_ready, "the pages are served")
        yield portal_origin
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def tenant(stepup_server):
    """A tenant whose policy selects what the examples do."""
    tenant_id = f"tenant-{uuid.uuid4().hex}"
    stepup_server.select(tenant_id, ["response.run_osquery", "response.start_remote_shell"])
    return tenant_id


@pytest.fixture
def bob(stepup_server, tenant):
    """A person of the tenant, with an authenticator."""
    actor = ActorContext(tenant_id=tenant, user_id="bob", session_id="bob-monday")
    return stepup_server.enrol(actor)


@pytest.fixture
def example(stepup_server, tenant, monkeypatch):
    """Imports a program as Python does when it runs the program, which finds server and tenant."""
    monkeypatch.setenv("TENANT", tenant)
    monkeypatch.setenv("STEPUP_CLIENT_TARGET", stepup_server.target)
    before = set(sys.modules)

    def load(path):
        folder = EXAMPLES / path
        monkeypatch.syspath_prepend(folder.parent)
        return importlib.import_module(folder.stem)

    yield load
    for name in set(sys.modules) - before:
        if str(EXAMPLES) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
