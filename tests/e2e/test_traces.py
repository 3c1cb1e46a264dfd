"""Traces, from a caller's `traceparent` to a collector that is not ours."""

import time
from contextlib import contextmanager
from uuid import uuid4

import grpc
import pytest
from stepup_tests.certificates import authority
from stepup_tests.e2e.clients import GrpCurl
from stepup_tests.e2e.collector import attributes, collecting, silent
from stepup_tests.e2e.leaks import Secrets, leaks
from stepup_tests.e2e.metrics import LISTEN, metrics
from stepup_tests.e2e.people import OSQUERY, administrator, check, enrol, person, protect, verdict
from stepup_tests.e2e.processes import eventually
from stepup_tests.valkey_server import free_port

from stepup.client.channels import Endpoint
from stepup.v1.actor_pb2 import ActorContext
from stepup.v1.step_up_service_pb2 import CheckStepUpRequest
from stepup.v1.step_up_service_pb2_grpc import StepUpServiceStub

pytestmark = pytest.mark.e2e

PLANTED = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
CALLERS_SPAN = "b7ad6b7169203331"
EXPORT_SECONDS = 120.0
"""For so long an exporter waits for a collector."""
PATIENCE_SECONDS = 30.0
"""More than a call takes on a busy machine, and much less than a call that waits for an export."""


def in_trace(trace, flags="01"):
    """Options of a client that calls as part of a trace."""
    return "-H", f"traceparent: 00-{trace}-{CALLERS_SPAN}-{flags}"


def configuration(directory, endpoint, *further):
    file = directory / "stepup.toml"
    section = f'[traces]\nendpoint = "{endpoint}"\nsample_ratio = 0'
    file.write_text("\n".join((section, *further)))
    return "--config", str(file)


@pytest.fixture
def trace():
    return uuid4().hex


@pytest.fixture
def start_traced(tmp_path, start_server, monkeypatch):
    """Starts a server that exports to an endpoint, soon unless that is not wanted."""

    def start(endpoint, *further, delay="50", timeout=EXPORT_SECONDS):
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", delay)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", f"{timeout:.0f}")
        return start_server(*configuration(tmp_path, endpoint, *further))

    return start


def test_a_call_arrives_at_the_collector_as_part_of_its_callers_trace(
    start_traced, collector, trace
):
    server = start_traced(collector.endpoint)
    protect(GrpCurl(server), administrator("acme"), OSQUERY)
    # S11: a caller that takes a secret for a name puts it there, where the canary finds it.
    client = GrpCurl(server, *in_trace(trace), "-H", f"x-request-id: {PLANTED}")
    assert verdict(client, person("acme", "bob"), OSQUERY)[0] == "ENROLLMENT_REQUIRED"
    verdict(GrpCurl(server, *in_trace(uuid4().hex, "00")), person("acme", "bob"), OSQUERY)

    def arrived():
        spans = collector.spans_of(trace)
        return [span for span in spans if span.parent_span_id.hex() == CALLERS_SPAN] and spans

    spans = eventually(arrived, "the spans arrive")
    [call] = [span for span in spans if span.parent_span_id.hex() == CALLERS_SPAN]
    parts = [span for span in spans if span is not call]
    assert {span.parent_span_id for span in parts} == {call.span_id}
    assert {span.name for span in parts} == {"redis", "sql_snapshot"}
    assert call.name == "stepup.v1.StepUpService/CheckStepUp"
    told = attributes(call)
    assert told["stepup.request_id"] == PLANTED
    assert told["stepup.decision"] == "enrollment_required"
    assert told["stepup.decision_reason"] == "not_enrolled"
    [line] = [line for line in server.logged("call") if line["request_id"] == PLANTED]
    assert line["trace_id"] == trace
    assert collector.spans == spans
    secrets = Secrets()
    secrets.note({"secret": PLANTED})
    assert ("spans", PLANTED) in leaks(secrets, server.data_dir, {"spans": collector.written})


def test_s11_what_was_not_exported_yet_is_when_a_server_ends_and_no_secret_is_in_it(
    start_traced, collector, trace
):
    server = start_traced(collector.endpoint, delay="600000")
    client = GrpCurl(server, *in_trace(trace))
    protect(client, administrator("acme"), OSQUERY)
    bob = person("acme", "bob")
    enrol(client, bob)
    assert check(client, bob, OSQUERY)["decision"] == "DECISION_ALLOWED"
    assert not collector.requests
    assert server.terminate() == 0
    outcomes = {attributes(span).get("stepup.outcome") for span in collector.spans}
    assert {"sql_transaction", "redis"} < {span.name for span in collector.spans}
    assert {attributes(span).get("stepup.decision") for span in collector.spans} == {
        None,
        "allowed",
    }
    assert outcomes == {None}
    assert not list(leaks(server.secrets, server.data_dir, {"spans": collector.written}))
    assert b"bob" not in collector.written


def test_each_worker_exports_by_itself(start_traced, collector):
    server = start_traced(collector.endpoint, "[server]\nworkers = 2")
    eventually(lambda: len(server.workers) == 2, "both workers are there")

    def both():
        verdict(GrpCurl(server, *in_trace(uuid4().hex)), person("acme", "bob"), OSQUERY)
        return len(collector.instances) == 2

    eventually(both, "both have exported")
    assert server.terminate() == 0


@pytest.fixture
def traced_with_tls(tmp_path, start_traced):
    """Makes a call of a server that trusts one authority, with a collector of the given one."""
    trusted = authority("collectors")
    (tmp_path / "ca.pem").write_bytes(trusted.chain)

    @contextmanager
    def traced(issuer=trusted, **options):
        credential = issuer.server()
        credentials = grpc.ssl_server_credentials([(credential.key, credential.chain)])
        with collecting(credentials=credentials) as collector:
            server = start_traced(collector.endpoint, f'ca_file = "{tmp_path}/ca.pem"', **options)
            calls_go_on(server, 1)
            yield server, collector

    return traced


def test_a_collector_may_have_tls(traced_with_tls):
    with traced_with_tls() as (_, collector):
        eventually(lambda: collector.spans, "the spans arrive")


def test_nothing_is_exported_to_a_collector_that_is_another(traced_with_tls):
    with traced_with_tls(authority("others"), timeout=1) as (server, collector):
        eventually(lambda: server.logged("traces_are_not_exported"), "that is in the log")
        assert not collector.requests


def calls_go_on(server, number=30):
    """Make calls that are all recorded, and demand that none waits for a collector.

    They are made again as we publish: a server without a processor for 2 s decides nothing (S10).
    """
    request = CheckStepUpRequest(
        actor=ActorContext(**person("acme", "bob")), operation=OSQUERY, target="host-1"
    )
    # Not through Envoy, which puts a server aside that is slow once.
    options = Endpoint(server.own_address).channel_options()
    with grpc.insecure_channel(server.own_address, options) as channel:
        check_step_up = StepUpServiceStub(channel).CheckStepUp
        for _ in range(number):
            traced = (("traceparent", f"00-{uuid4().hex}-{CALLERS_SPAN}-01"),)
            check_step_up(request, metadata=traced, timeout=PATIENCE_SECONDS)


def ends_soon(server):
    began = time.monotonic()
    assert server.terminate() == 0
    assert time.monotonic() - began < PATIENCE_SECONDS


def test_calls_go_on_without_a_collector_and_are_exported_once_it_is_there(start_traced):
    port = free_port()
    server = start_traced(f"http://127.0.0.1:{port}", LISTEN, timeout=1)
    calls_go_on(server)
    eventually(lambda: server.logged("traces_are_not_exported"), "that is in the log")
    with collecting(port) as collector:

        def exported():
            calls_go_on(server, 1)
            return collector.spans

        eventually(exported, "spans arrive")
        eventually(lambda: server.logged("traces_are_exported_again"), "that is in the log, too")
        assert metrics(server)["stepup_spans_exported_total",] > 0
    calls_go_on(server)
    ends_soon(server)
    problems = [line["problem"] for line in server.logged("traces_are_not_exported")]
    assert "UNAVAILABLE" in problems[0]
    # Each worker says so in its own words, and the exporter itself says nothing.
    assert server.stderr.read_text().count("Failed to export") <= len(problems)


def test_calls_go_on_while_the_collector_hangs_and_a_server_ends_all_the_same(
    start_traced, collector
):
    collector.goes_on.clear()
    server = start_traced(collector.endpoint, LISTEN)
    calls_go_on(server)
    eventually(collector.asked.is_set, "an export is under way")
    calls_go_on(server)
    assert metrics(server)["stepup_spans_total",] >= 30
    assert metrics(server)["stepup_spans_exported_total",] == 0
    ends_soon(server)


@pytest.mark.slow
def test_calls_go_on_where_nobody_answers(start_traced):
    with silent() as endpoint:
        server = start_traced(endpoint)
        calls_go_on(server)
        ends_soon(server)
