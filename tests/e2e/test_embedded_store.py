"""The server without its embedded store (S17), and how it gets it back."""

import os
import signal

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
from stepup_tests.e2e.topologies import EMBEDDED

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.topologies(EMBEDDED, reason="the embedded store is its subject"),
]


@pytest.fixture
def client(server):
    return GrpCurl(server)


@pytest.fixture
def bob(client, tenant):
    """Enrolled and elevated, in a business that protects `OSQUERY`."""
    actor = person(tenant, "bob")
    protect(client, administrator(tenant), OSQUERY)
    enrol(client, actor)
    return actor


@pytest.fixture
def without_store(server, bob):  # noqa: ARG001  # who is elevated before
    """A server whose embedded store was killed and cannot be started."""
    lock = server.data_dir / "valkey" / "lock"
    lock.unlink()
    lock.mkdir()
    os.kill(server.embedded_store, signal.SIGKILL)
    eventually(lambda: server.embedded_store is None, "the embedded store has ended")
    return lock


def answered(client, actor):
    try:
        return verdict(client, actor, OSQUERY)
    except Refused:
        return None


@pytest.mark.usefixtures("without_store")
def test_where_an_elevation_counts_nothing_is_decided(client, bob):
    with pytest.raises(Refused) as refused:
        check(client, bob, OSQUERY)
    assert (refused.value.code, refused.value.reason) == ("UNAVAILABLE", "STORE_UNAVAILABLE")
    assert refused.value.detail("RetryInfo")


@pytest.mark.usefixtures("without_store")
def test_where_no_elevation_counts_decisions_go_on(client, bob):
    assert verdict(client, bob, API_KEYS) == ("ALLOWED", "OPERATION_NOT_SELECTED")


@pytest.mark.usefixtures("without_store")
def test_exemptions_go_on(client, bob):
    olga = person(bob["tenant_id"], "olga", team="TEAM_MANAGED_SERVICES_OPERATIONS")
    assert verdict(client, olga, OSQUERY) == ("ALLOWED", "EXEMPT_MANAGED_SERVICES")


def test_a_killed_store_is_started_again_and_knows_what_it_knew(server, client, bob):
    os.kill(server.embedded_store, signal.SIGKILL)
    eventually(
        lambda: b"embedded_store_started_again" in server.stderr.read_bytes(), "the log says so"
    )
    assert verdict(client, bob, OSQUERY) == ("ALLOWED", "ELEVATED")


def test_a_store_that_could_not_be_started_is_tried_again(client, bob, without_store):
    without_store.rmdir()
    assert eventually(lambda: answered(client, bob), "decisions are made again") == (
        "ALLOWED",
        "ELEVATED",
    )


def test_a_store_that_hangs_is_unavailable(server, client, bob):
    os.kill(server.embedded_store, signal.SIGSTOP)
    try:
        with pytest.raises(Refused) as refused:
            check(client, bob, OSQUERY)
    finally:
        os.kill(server.embedded_store, signal.SIGCONT)
    assert refused.value.reason == "STORE_UNAVAILABLE"


@pytest.mark.usefixtures("without_store")
def test_a_server_without_its_store_terminates_cleanly(server):
    assert server.terminate() == 0
    assert not list(server.temporary.iterdir())
