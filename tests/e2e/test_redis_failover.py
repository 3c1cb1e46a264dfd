"""Redis fails over, by Sentinels and in a cluster, under load: nothing wrong comes of it (S17)."""

import time
from contextlib import contextmanager
from functools import partial
from uuid import uuid4

import grpc
import pytest
from google.protobuf.json_format import ParseDict
from stepup_tests.e2e.authenticator_app import AuthenticatorApp
from stepup_tests.e2e.callers import Callers
from stepup_tests.e2e.clients import GrpCurl, Refused
from stepup_tests.e2e.enrolled import enrolled
from stepup_tests.e2e.people import (
    OSQUERY,
    administrator,
    enrol,
    events,
    person,
    protect,
    standing,
    verify,
)
from stepup_tests.e2e.processes import PROGRAMS, eventually, run
from stepup_tests.e2e.serving import serving
from stepup_tests.e2e.topologies import EMBEDDED
from stepup_tests.e2e.verifiers import (
    LATEST_SECONDS,
    OUTCOMES,
    SECRET,
    TENANT,
    USERS,
    Load,
    recorded_verifications,
)
from stepup_tests.valkey_cluster import is_master, valkey_cluster
from stepup_tests.valkey_sentinel import valkey_sentinel

from stepup.domain.actor import Actor, SessionId, TenantId, UserId
from stepup.service.ports import RequestKey
from stepup.stores.redis.keyspace import elevation_key, outcome_key, revocation_key
from stepup.v1 import actor_pb2
from stepup.v1.step_up_service_pb2 import CheckStepUpRequest, Decision
from stepup.v1.step_up_service_pb2_grpc import StepUpServiceStub

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.topologies(EMBEDDED, reason="it has stores of its own"),
]

DEADLINE_SECONDS = 5
ALICE, BOB, CAROL, DAVE, EVE = (
    person(TENANT, user) for user in ("alice", "bob", "carol", "dave", "eve")
)


@pytest.fixture(params=[valkey_sentinel, valkey_cluster], ids=["sentinel", "cluster"])
def redis(request, tmp_path):
    with request.param(tmp_path / "redis") as redis:
        yield redis


@pytest.fixture
def server(redis, tmp_path):
    file = tmp_path / "stepup.toml"
    file.write_text(f'[storage]\nredis_url = "{redis.redis_url}"\n')
    with serving(tmp_path, "--config", str(file)) as server:
        protect(GrpCurl(server), administrator(TENANT), OSQUERY)
        yield server


@pytest.fixture
def client(server):
    return GrpCurl(server)


def database_of(server):
    return f"sqlite:///{server.data_dir / 'stepup.db'}"


def key_of(actor):
    """Where the elevation of a person's session lies."""
    known = Actor(
        TenantId(actor["tenant_id"]), UserId(actor["user_id"]), SessionId(actor["session_id"])
    )
    return elevation_key(known.tenant_id, known.user_id, known.session_hash)


def sign_out(client, actor, scope):
    request = {"actor": actor, "scope": f"REVOCATION_SCOPE_{scope}"}
    client.call("StepUpService/RevokeElevations", request)


def calls_of(server):
    """How often a server that runs was asked for something of ours.

    What a replica writes as its master does counts as asked for, too: of those it is the reads.
    """
    if server.process.poll() is not None:
        return None
    names = ("mget", "set", "eval") if is_master(server) else ("mget",)
    statistics = server.client.info("commandstats")
    return {name: statistics.get(f"cmdstat_{name}", {}).get("calls") for name in names}


def is_left_alone(server, load):
    """Whether it is asked for nothing, while codes are accepted."""
    asked = calls_of(server)
    load.go_on()
    return calls_of(server) == asked


DECIDED = ("ALLOWED", "STEP_UP_REQUIRED", "ENROLLMENT_REQUIRED")


def checks(server, *actors):
    """A caller for each person that checks without a pause."""
    stub = StepUpServiceStub(grpc.insecure_channel(server.address))

    def decision(actor):
        context = ParseDict(actor, actor_pb2.ActorContext())
        request = CheckStepUpRequest(actor=context, operation=OSQUERY)
        answer = stub.CheckStepUp(request, timeout=DEADLINE_SECONDS)
        return Decision.Name(answer.decision).removeprefix("DECISION_")

    return Callers({actor["user_id"]: partial(decision, actor) for actor in actors})


@pytest.mark.slow
@pytest.mark.parametrize("lose", ["kill", "freeze"])
def test_s2_s17_a_lost_master_is_unavailable_for_a_time_and_nothing_else(
    redis, server, client, lose, record_property
):
    enrolled(server, TENANT, dict.fromkeys([*USERS, "eve"], SECRET))
    for actor in (ALICE, CAROL, DAVE):
        enrol(client, actor)
    app = enrol(client, BOB).app
    for _ in range(5):
        verify(client, BOB, app.wrong_code())
    sign_out(client, DAVE, "USER")
    sign_out(client, CAROL, "SESSION")
    with Load(server.address) as load, checks(server, ALICE, CAROL, DAVE, EVE) as checking:
        load.go_on()
        checking.wait_for(1, *DECIDED, of="alice")
        old_master = redis.master_of(key_of(ALICE))
        getattr(old_master, lose)()
        lost_at = time.monotonic()
        checking.wait_for(1, "UNAVAILABLE", of="alice")
        checking.wait_for(1, *DECIDED, of="alice")
        recovered = time.monotonic() - lost_at
        old_master.thaw()
        # It takes itself for the master still, but nobody asks it any more.
        eventually(lambda: is_left_alone(old_master, load), "the old master is left alone")
        for actor in (ALICE, CAROL, DAVE, EVE):
            checking.wait_for(1, *DECIDED, of=actor["user_id"])
    record_property("recovery_seconds", recovered)
    print(f"{type(redis).__name__}, {lose}: back after {recovered:.1f} s")  # noqa: T201

    assert load.slowest < LATEST_SECONDS
    assert set(load.outcomes) <= {"UNAVAILABLE", *OUTCOMES}
    assert max(load.verified.values()) == 1
    recorded = recorded_verifications(database_of(server))
    assert max(recorded.values()) == 1
    assert recorded.keys() >= (+load.verified).keys()

    decisions = checking.ends
    assert decisions["alice"].keys() <= {"ALLOWED", "STEP_UP_REQUIRED", "UNAVAILABLE"}
    assert decisions["alice"]["ALLOWED"]
    for user in ("carol", "dave", "eve"):
        assert decisions[user].keys() <= {"STEP_UP_REQUIRED", "UNAVAILABLE"}
        assert decisions[user]["STEP_UP_REQUIRED"]
    assert all(standing(client, actor)["active"] for actor in (ALICE, BOB, CAROL, DAVE))
    assert verify(client, BOB, "000000")["outcome"] == "OUTCOME_THROTTLED"
    proven = run(
        [PROGRAMS / "stepup", "audit", "verify", "--data-dir", server.data_dir], server.data_dir
    )
    assert proven.returncode == 0, proven.stdout


@contextmanager
def unseen_by_replicas(redis, key):
    """What the master of a key does in the block is lost with it, at the end of the block."""
    master = redis.master_of(key)
    replicas = redis.replicas_of(master)
    master.client.wait(len(replicas), 5000)
    for replica in replicas:
        replica.freeze()
    # Else what is sent to them waits in their sockets, and they read it when they go on.
    master.client.client_kill_filter(_type="replica")
    yield
    master.kill()
    for replica in replicas:
        replica.thaw()
    eventually(lambda: redis.master_of(key) is not master, "a replica is promoted")


@pytest.mark.parametrize(
    ("redis", "scope"),
    [
        (valkey_sentinel, "USER"),
        (valkey_cluster, "SESSION"),
        pytest.param(valkey_sentinel, "SESSION", marks=pytest.mark.slow),
        pytest.param(valkey_cluster, "USER", marks=pytest.mark.slow),
    ],
    indirect=["redis"],
    ids=["sentinel-user", "cluster-session", "sentinel-session", "cluster-user"],
)
def test_s10_a_revocation_holds_that_the_promoted_replica_never_saw(redis, client, scope):
    enrol(client, ALICE)
    key, mark = key_of(ALICE), revocation_key(TenantId(TENANT), UserId("alice"))
    with checks(client.server, ALICE) as checking:
        with unseen_by_replicas(redis, key):
            checking.wait_for(1, *DECIDED, of="alice")
            assert checking.ends["alice"]["ALLOWED"]
            sign_out(client, ALICE, scope)
            # The check that was under way when she was signed out may be allowed still.
            checking.wait_for(1, *DECIDED, of="alice")
            checking.ends["alice"].clear()
            checking.wait_for(1, *DECIDED, of="alice")
        promoted = redis.master_of(key).client
        assert promoted.exists(key)
        assert not promoted.exists(mark)
        checking.wait_for(1, *DECIDED, of="alice")
        assert promoted.exists(key)
    assert checking.ends["alice"].keys() <= {"STEP_UP_REQUIRED", "UNAVAILABLE"}


def test_s2_a_code_is_not_accepted_again_when_the_record_of_it_is_lost(redis, server, client):
    enrolled(server, TENANT, {"eve": SECRET})
    request_id = uuid4()
    key = outcome_key(RequestKey(TenantId(TENANT), UserId("eve"), request_id))
    code = AuthenticatorApp(SECRET.base32).code()

    def outcome(request_id):
        request = {"actor": EVE, "code": code, "request_id": str(request_id)}
        try:
            return client.call("StepUpService/VerifyOtp", request)["outcome"]
        except Refused as refused:
            return refused.code

    with unseen_by_replicas(redis, key):
        assert outcome(request_id) == outcome(request_id) == "OUTCOME_VERIFIED"
    assert not redis.master_of(key).client.exists(key)
    another = uuid4()
    again = eventually(lambda: (end := outcome(another)) != "UNAVAILABLE" and end, "an answer")
    assert again == outcome(request_id) == "OUTCOME_REJECTED"
    assert list(recorded_verifications(database_of(server)).values()) == [1]
    only_rejected = {"kinds": ["AUDIT_EVENT_KIND_OTP_REJECTED"]}
    rejected = events(client, TENANT, filter=only_rejected)
    # That its own session repeats it is known for good, however long the fail-over takes.
    assert {event["details"]["cause"] for event in rejected} == {"repeated"}
