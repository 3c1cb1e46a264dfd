"""Somebody writes to a server's Redis by hand: nobody is elevated by it (S25)."""

import time

import orjson
import pytest
from stepup_tests.e2e.clients import GrpCurl
from stepup_tests.e2e.people import OSQUERY, administrator, enrol, person, protect, verdict
from stepup_tests.e2e.serving import serving
from stepup_tests.e2e.topologies import EMBEDDED

from stepup.domain.actor import Actor, SessionId, TenantId, UserId
from stepup.stores.redis.keyspace import digest, elevation_key

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.topologies(EMBEDDED, "redis", reason="the values lie on one server"),
]
ENROLLMENT = "2f9cc1e0-0a33-48b5-87ef-19863887c6d4"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("forged")) as server:
        yield server


@pytest.fixture
def client(server):
    return GrpCurl(server)


def owner(actor):
    ids = TenantId(actor["tenant_id"]), UserId(actor["user_id"]), SessionId(actor["session_id"])
    return ids[0], ids[1], Actor(*ids).session_hash


@pytest.fixture
def redis(server):
    """The one Redis of the server."""
    with server.site.redises(server) as [master]:
        yield master


def without_a_mac(actor, enrollment_id):
    """The format of a version that knew no MAC."""
    now = int(time.time() * 1_000_000)
    return orjson.dumps([1, digest(*owner(actor)), enrollment_id, now, 900_000_000, ["totp"]])


def test_s25_one_set_by_hand_elevates_nobody(redis, client, tenant):
    bob, elsewhere = person(tenant, "bob"), person(tenant, "bob", "tuesday")
    ann = person(tenant, "ann")
    protect(client, administrator(tenant), OSQUERY)
    enrol(client, bob)
    enrol(client, ann)
    authentic = redis.get(elevation_key(*owner(bob)))
    forgeries = {
        "the format without a MAC": without_a_mac(elsewhere, ENROLLMENT),
        "copied from another session": authentic,
        "copied from another user": redis.get(elevation_key(*owner(ann))),
        "altered": authentic.replace(b"totp", b"totP"),
        "a longer life": authentic.replace(b"900000000", b"990000000"),
        "a made-up MAC": authentic[:1] + bytes(16) + authentic[17:],
    }
    for forgery, value in forgeries.items():
        redis.set(elevation_key(*owner(elsewhere)), value, ex=900)
        assert verdict(client, elsewhere, OSQUERY) == (
            "STEP_UP_REQUIRED",
            "NOT_ELEVATED",
        ), forgery
    assert verdict(client, bob, OSQUERY) == ("ALLOWED", "ELEVATED")
    redis.set(elevation_key(*owner(bob)), forgeries["a longer life"], ex=900)
    assert verdict(client, bob, OSQUERY) == ("STEP_UP_REQUIRED", "NOT_ELEVATED")


def test_s25_an_elevation_that_is_put_back_after_a_sign_out_stays_revoked(redis, client, tenant):
    bob = person(tenant, "bob")
    protect(client, administrator(tenant), OSQUERY)
    enrol(client, bob)
    key = elevation_key(*owner(bob))
    authentic = redis.get(key)
    assert verdict(client, bob, OSQUERY) == ("ALLOWED", "ELEVATED")
    client.call(
        "StepUpService/RevokeElevations", {"actor": bob, "scope": "REVOCATION_SCOPE_SESSION"}
    )
    redis.set(key, authentic, ex=900)
    assert verdict(client, bob, OSQUERY) == ("STEP_UP_REQUIRED", "NOT_ELEVATED")
