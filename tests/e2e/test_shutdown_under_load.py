"""Servers that end while callers call: each call is answered, rightly, or may be tried again.

Calls that come before a client has heard that its server ends are given back with CANCELLED: so
does gRPC's core, below both engines, on each of which `make test-engines` runs this.
"""

import json
import threading
import time
from contextlib import ExitStack

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2_grpc
from stepup_tests.e2e.checkers import CALLERS, ENOUGH, TENANT, checking
from stepup_tests.e2e.clients import GrpCurl
from stepup_tests.e2e.people import OSQUERY, administrator, protect
from stepup_tests.e2e.serving import serving
from stepup_tests.e2e.topologies import DIRECT

from stepup.client import SERVICE_CONFIG

pytestmark = pytest.mark.e2e

DRAIN_SECONDS = 2
LATEST_SECONDS = DRAIN_SECONDS + 10  # its stores end after the calls, on a busy machine


@pytest.fixture
def start_server(tmp_path):
    """Starts a server with a policy that protects one of two operations."""
    with ExitStack() as stack:

        def start(name="server", drain_seconds=DRAIN_SECONDS):
            directory = tmp_path / name
            directory.mkdir()
            (directory / "stepup.toml").write_text(f"[server]\ndrain_seconds = {drain_seconds}\n")
            config = ("--config", str(directory / "stepup.toml"))
            server = stack.enter_context(serving(directory, *config))
            protect(GrpCurl(server), administrator(TENANT), OSQUERY)
            return server

        yield start


def test_a_server_that_is_told_to_end_answers_what_it_has_begun(start_server):
    server = start_server()
    with checking(server) as callers:
        began = time.monotonic()
        assert server.terminate() == 0
        took = time.monotonic() - began
        callers.wait_for(1, "UNAVAILABLE")
    assert took < LATEST_SECONDS
    assert set(callers.outcomes) - {"CANCELLED"} == {"right", "UNAVAILABLE"}
    assert callers.outcomes["CANCELLED"] <= CALLERS


def test_a_server_that_is_killed_leaves_calls_unavailable(start_server):
    server = start_server()
    with checking(server) as callers:
        server.kill()
        callers.wait_for(1, "UNAVAILABLE")
    assert set(callers.outcomes) == {"right", "UNAVAILABLE"}


@pytest.mark.topologies(*DIRECT, reason="each server would have an Envoy of its own")
def test_with_our_retry_policy_and_another_server_no_call_fails(start_server):
    one, another = start_server("one"), start_server("another")
    with checking(one, another, **json.loads(SERVICE_CONFIG)) as callers:
        for end in (one.terminate, one.kill):
            end()
            callers.wait_for(ENOUGH, "right")
            one.start()
            callers.wait_for(ENOUGH, "right")
    assert set(callers.outcomes) == {"right"}


def test_a_watch_of_health_does_not_put_the_end_off(start_server):
    server = start_server(drain_seconds=60)
    with grpc.insecure_channel(server.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        began = time.monotonic()
        assert server.terminate() == 0
        assert time.monotonic() - began < 60
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
