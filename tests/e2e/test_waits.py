"""Who waits for a challenge learns its answer: at any server, and through every failure (S17)."""

import time

import grpc
import pytest
from stepup_tests.e2e.processes import PROGRAMS, eventually, run
from stepup_tests.e2e.serving import serving
from stepup_tests.e2e.sql import execute
from stepup_tests.e2e.topologies import EMBEDDED
from stepup_tests.postgres import PostgresServer
from stepup_tests.wire import refusal

from stepup.v1 import challenge_service_pb2 as pb
from stepup.v1.actor_pb2 import ActorContext
from stepup.v1.challenge_service_pb2_grpc import ChallengeServiceStub

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.topologies(EMBEDDED, reason="it has stores of its own"),
]
ALICE = ActorContext(tenant_id="acme", user_id="alice", session_id="monday")
PATIENCE_SECONDS = 30
DECLINED = pb.CHALLENGE_STATE_DECLINED


@pytest.fixture(scope="module")
def postgresql():
    """A server to be killed."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="module")
def servers(postgresql, tmp_path_factory):
    """Two servers on one database."""
    directory = tmp_path_factory.mktemp("servers")
    execute(postgresql.url(), "CREATE DATABASE stepup")
    config = directory / "stepup.toml"
    config.write_text(f'[storage]\ndatabase_url = "{postgresql.url("stepup")}"\n')
    migrated = run([PROGRAMS / "stepup", "migrate", "--config", config], directory)
    assert migrated.returncode == 0
    directories = directory / "one", directory / "other"
    for each in directories:
        each.mkdir(mode=0o700)
    with (
        serving(directories[0], "--config", str(config)) as one,
        serving(directories[1], "--config", str(config)) as other,
    ):
        yield one, other


class Caller:
    """Calls one server."""

    def __init__(self, server):
        self._channel = grpc.insecure_channel(server.address)
        self._stub = ChallengeServiceStub(self._channel)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._channel.close()

    def create(self):
        item = pb.NewChallengeItem(operation="response.run_osquery", target="1", label="Host 1")
        request = pb.CreateChallengeRequest(actor=ALICE, items=[item], message="Find the file")
        return self._stub.CreateChallenge(request).challenge.challenge_id

    def wait(self, challenge_id):
        """A call that has got the pending challenge."""
        call = self._stub.AwaitChallenge(
            pb.AwaitChallengeRequest(actor=ALICE, challenge_id=challenge_id),
            timeout=PATIENCE_SECONDS,
            wait_for_ready=True,
        )
        assert next(call).challenge.state == pb.CHALLENGE_STATE_PENDING
        return call

    def decline(self, challenge_id):
        """Decline, again and again until a server answers."""

        def is_declined():
            request = pb.DeclineChallengeRequest(actor=ALICE, challenge_id=challenge_id)
            try:
                return self._stub.DeclineChallenge(request).challenge.state == DECLINED
            except grpc.RpcError:
                return False

        eventually(is_declined, "the challenge is declined")

    def state(self, challenge_id):
        request = pb.AwaitChallengeRequest(actor=ALICE, challenge_id=challenge_id)
        call = self._stub.AwaitChallenge(request, timeout=PATIENCE_SECONDS, wait_for_ready=True)
        return next(call).challenge.state


def test_a_wait_learns_the_answer_of_another_server_within_two_seconds(servers):
    with Caller(servers[0]) as waiting, Caller(servers[1]) as answering:
        challenge_id = answering.create()
        call = waiting.wait(challenge_id)
        answering.decline(challenge_id)
        answered = time.monotonic()
        assert next(call).challenge.state == DECLINED
        # Two, and the other tests on this machine.
        assert time.monotonic() - answered < 4


def test_a_wait_outlasts_a_killed_database(servers, postgresql):
    with Caller(servers[0]) as waiting, Caller(servers[1]) as answering:
        challenge_id = answering.create()
        call = waiting.wait(challenge_id)
        postgresql.kill()
        eventually(
            lambda: servers[0].logged("challenges_not_polled"), "the waits lack the database"
        )
        postgresql.start()
        answering.decline(challenge_id)
        assert next(call).challenge.state == DECLINED


@pytest.mark.parametrize("end", ["crash", "terminate"])
def test_a_wait_continues_at_another_server(servers, end):
    with Caller(servers[0]) as waiting, Caller(servers[1]) as answering:
        challenge_id = answering.create()
        call = waiting.wait(challenge_id)
        getattr(servers[0], end)()
        with pytest.raises(grpc.RpcError) as ended:
            next(call)
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        if end == "terminate":
            assert refusal(ended.value).reason == "DRAINING"
        again = answering.wait(challenge_id)
        answering.decline(challenge_id)
        assert next(again).challenge.state == DECLINED
        # And at a server that was down when the person answered.
        servers[0].start()
        with Caller(servers[0]) as later:
            assert later.state(challenge_id) == DECLINED
