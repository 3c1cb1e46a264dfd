"""A real server, and the programs of examples/ as modules."""

import importlib
import sys
import uuid

import pytest
from stepup_tests.places import ROOT

from stepup.client import ActorContext
from stepup.client.testing.fixtures import stepup_server

__all__ = ["stepup_server"]

EXAMPLES = ROOT / "examples"


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
