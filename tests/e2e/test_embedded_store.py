"""The server without its embedded store (S17), and how it gets it back.

The tests share a server, and give its store back.
"""

import os
import signal
from contextlib import contextmanager

import pytest
from stepup_tests.e2e.clients import GrpCurl, Refused
from stepup_tests.e2e.people import (
    API_KEYS,
    OSQUERY,
    administrator,
    check,
    enrol,
    person,
    protect,
    verdict,
)
from stepup_tests.e2e.processes import eventually
from stepup_tests.e2e.serving import serving
from stepup_tests.e2e.topologies import EMBEDDED

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.topologies(EMBEDDED, reason="the embedded store is its subject"),
]

BOB = person("acme", "bob")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Bob is enrolled and elevated, in a business that protects `OSQUERY`."""
    with serving(tmp_path_factory.mktemp("embedded")) as server:
        protect(GrpCurl(server), administrator("acme"), OSQUERY)
        enrol(GrpCurl(server), BOB)
        yield server


@pytest.fixture
def client(server):
    return GrpCurl(server)


@contextmanager
def without_store(server):
    """While the block lasts, the embedded store is killed and cannot be started."""
    lock = server.data_dir / "valkey" / "lock"
    lock.unlink()
    lock.mkdir()
    os.kill(server.embedded_store, signal.SIGKILL)
    eventually(lambda: server.embedded_store is None, "the embedded store has ended")
    yield
    lock.rmdir()


def is_elevated(client):
    try:
        return verdict(client, BOB, OSQUERY) == ("ALLOWED", "ELEVATED")
    except Refused:
        return False


def test_where_an_elevation_counts_nothing_is_decided(server, client):
    with without_store(server):
        with pytest.raises(Refused) as refused:
            check(client, BOB, OSQUERY)
        assert (refused.value.code, refused.value.reason) == ("UNAVAILABLE", "STORE_UNAVAILABLE")
        assert refused.value.detail("RetryInfo")
        assert verdict(client, BOB, API_KEYS) == ("ALLOWED", "OPERATION_NOT_SELECTED")
        olga = person("acme", "olga", team="TEAM_MANAGED_SERVICES_OPERATIONS")
        assert verdict(client, olga, OSQUERY) == ("ALLOWED", "EXEMPT_MANAGED_SERVICES")
    eventually(lambda: is_elevated(client), "a store that could not be started is tried again")


def test_a_killed_store_is_started_again_and_knows_what_it_knew(server, client):
    before = len(server.logged("embedded_store_started_again"))
    os.kill(server.embedded_store, signal.SIGKILL)
    eventually(
        lambda: len(server.logged("embedded_store_started_again")) > before, "the log says so"
    )
    assert verdict(client, BOB, OSQUERY) == ("ALLOWED", "ELEVATED")


def test_a_store_that_hangs_is_unavailable(server, client):
    os.kill(server.embedded_store, signal.SIGSTOP)
    try:
        with pytest.raises(Refused) as refused:
            check(client, BOB, OSQUERY)
    finally:
        os.kill(server.embedded_store, signal.SIGCONT)
    assert refused.value.reason == "STORE_UNAVAILABLE"
    eventually(lambda: is_elevated(client), "it answers again")


def test_a_server_without_its_store_terminates_cleanly(server):
    with without_store(server):
        assert server.terminate() == 0
        assert not list(server.temporary.iterdir())
    server.start()
