"""Servers that end while callers call: each call is answered, rightly, or may be tried again.

Calls that come before a client has heard that its server ends are given back with CANCELLED: so
does gRPC's core, below both engines.
"""

import json
import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager

import grpc
import pytest
from e2e.clients import GrpCurl
from e2e.conftest import serving
from e2e.people import OSQUERY, SHELL, administrator, person, protect
from e2e.processes import eventually
from google.protobuf.json_format import ParseDict
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2_grpc

from stepup.client import SERVICE_CONFIG
from stepup.v1 import actor_pb2
from stepup.v1.step_up_service_pb2 import DECISION_ALLOWED, DECISION_ENROLLMENT_REQUIRED
from stepup.v1.step_up_service_pb2 import CheckStepUpRequest as Check
from stepup.v1.step_up_service_pb2_grpc import StepUpServiceStub

pytestmark = pytest.mark.e2e

TENANT = "acme"
RIGHT = {OSQUERY: DECISION_ENROLLMENT_REQUIRED, SHELL: DECISION_ALLOWED}
DRAIN_SECONDS = 2
CALLERS = 8
LATEST_SECONDS = DRAIN_SECONDS + 3  # its stores end after the calls, on a busy machine


@pytest.fixture(params=["aio", "core"])
def start_server(request, tmp_path):
    """Starts a server on an engine, with a policy that protects one of two operations."""
    with ExitStack() as stack:

        def start(name="server"):
            directory = tmp_path / name
            directory.mkdir()
            (directory / "stepup.toml").write_text(f"[server]\ndrain_seconds = {DRAIN_SECONDS}\n")
            arguments = ("--engine", request.param, "--config", str(directory / "stepup.toml"))
            server = stack.enter_context(serving(directory, *arguments))
            protect(GrpCurl(server), administrator(TENANT), OSQUERY)
            return server

        yield start


class Load:
    """Threads that check without a pause, on several connections; `outcomes` are counted."""

    def __init__(self, target, options):
        self.outcomes = Counter()
        self._ends = threading.Event()
        self._channels = [
            grpc.insecure_channel(target, (("grpc.use_local_subchannel_pool", 1), *options))
            for _ in range(CALLERS // len(RIGHT))
        ]
        self._threads = [
            threading.Thread(target=self._call, args=(StepUpServiceStub(channel), operation))
            for channel in self._channels
            for operation in RIGHT
        ]

    def _call(self, stub, operation):
        actor = ParseDict(person(TENANT, "bob"), actor_pb2.ActorContext())
        request = Check(actor=actor, operation=operation)
        while not self._ends.is_set():
            try:
                answer = stub.CheckStepUp(request, timeout=20)
                is_right = answer.decision == RIGHT[operation]
                self.outcomes["right" if is_right else "wrong"] += 1
            except grpc.RpcError as error:
                self.outcomes[error.code().name] += 1
                time.sleep(0.01)

    def is_answered(self):
        """Wait until a good number of calls have been, from now on."""
        enough = self.outcomes["right"] + 300
        eventually(lambda: self.outcomes["right"] > enough, "calls are answered")

    def start(self):
        for thread in self._threads:
            thread.start()

    def end(self):
        self._ends.set()
        for thread in self._threads:
            thread.join()
        for channel in self._channels:
            channel.close()


@contextmanager
def load(*servers, **config):
    """Callers of servers, among which each has its turn, with a gRPC service config."""
    addresses = ",".join(server.address for server in servers)
    config["loadBalancingConfig"] = [{"round_robin": {}}]
    options = (("grpc.service_config", json.dumps(config)),)
    running = Load(f"ipv4:{addresses}", options)
    running.start()
    try:
        running.is_answered()
        yield running
    finally:
        running.end()


def test_a_server_that_is_told_to_end_answers_what_it_has_begun(start_server):
    server = start_server()
    with load(server) as callers:
        began = time.monotonic()
        assert server.terminate() == 0
        took = time.monotonic() - began
        eventually(lambda: callers.outcomes["UNAVAILABLE"], "callers hear that it has gone")
    assert took < LATEST_SECONDS
    assert set(callers.outcomes) - {"CANCELLED"} == {"right", "UNAVAILABLE"}
    assert callers.outcomes["CANCELLED"] <= CALLERS


def test_a_server_that_is_killed_leaves_calls_unavailable(start_server):
    server = start_server()
    with load(server) as callers:
        server.kill()
        eventually(lambda: callers.outcomes["UNAVAILABLE"], "callers hear that it has gone")
    assert set(callers.outcomes) == {"right", "UNAVAILABLE"}


@pytest.mark.parametrize("how", ["terminate", "kill"])
def test_with_our_retry_policy_and_another_server_no_call_fails(start_server, how):
    one, another = start_server("one"), start_server("another")
    with load(one, another, **json.loads(SERVICE_CONFIG)) as callers:
        getattr(one, how)()
        callers.is_answered()
        one.start()
        callers.is_answered()
    assert set(callers.outcomes) == {"right"}


def test_who_watches_health_does_not_put_the_end_off(start_server):
    server = start_server()
    with grpc.insecure_channel(server.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        began = time.monotonic()
        assert server.terminate() == 0
        assert time.monotonic() - began < DRAIN_SECONDS
        assert [each.status for each in watch] == [health_pb2.HealthCheckResponse.NOT_SERVING]


def test_a_call_that_does_not_end_puts_the_end_off_by_the_time_to_drain_only(start_server):
    server = start_server()
    for_ever = threading.Event()
    with grpc.insecure_channel(server.address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo(_nothing_until(for_ever))
        GrpCurl(server).call("PolicyService/ListOperations")  # the call above has arrived, too
        began = time.monotonic()
        assert server.terminate() == 0
        assert DRAIN_SECONDS <= time.monotonic() - began < LATEST_SECONDS
        with pytest.raises(grpc.RpcError) as error:
            next(call)
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE
        for_ever.set()


def _nothing_until(event):
    event.wait()
    yield from ()
