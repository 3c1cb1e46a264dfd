"""The spans of calls, as OpenTelemetry's SDK records them."""

import asyncio
import time
from contextlib import suppress

import grpc
import pytest
import structlog
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from stepup_tests.callers import admit_local
from stepup_tests.engines import make_engine
from stepup_tests.metrics import metric
from stepup_tests.people import person
from stepup_tests.requests import METHODS, valid_request
from stepup_tests.wire import Client, on_wire, pipeline_of, refusal_of, served
from stepup_tests.worker import OSQUERY

from stepup.domain.errors import (
    CallerNotPermittedError,
    CallerUnauthenticatedError,
    StoreUnavailableError,
)
from stepup.rpc.engine import Invocation
from stepup.rpc.pipeline.call import Method
from stepup.rpc.wire.errors import RefusedError
from stepup.telemetry.traces import Traces
from stepup.v1 import policy_service_pb2 as policy
from stepup.v1 import step_up_service_pb2 as step_up

__all__ = ["make_engine"]

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = (("traceparent", f"00-{TRACE}-{SPAN}-01"),)
NOT_SAMPLED = (("traceparent", f"00-{TRACE}-{SPAN}-00"),)


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def traces(exporter):
    """Traces that nobody but the caller begins."""
    return Traces(SimpleSpanProcessor(exporter), 0)


@pytest.fixture
async def client(worker, traces, make_engine):
    """A client of a server with each of the engines, one after the other."""
    async with served(worker, begin_span=traces.begin, make_engine=make_engine) as server:
        client = Client(server.target)
        yield client
        await client.close()


def checking(somebody, operation=OSQUERY):
    return step_up.CheckStepUpRequest(actor=on_wire(somebody), operation=operation)


async def know_the_policy(worker, client):
    """Let the server read it, so that no later call does."""
    await worker.select(OSQUERY)
    await client.step_up.CheckStepUp(checking(person()))


def as_hex(span):
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"


def tree(spans):
    """The span of the one call, and its parts by name."""
    [call] = [span for span in spans if span.kind is SpanKind.SERVER]
    parts = [span for span in spans if span is not call]
    for part in parts:
        assert part.parent.span_id == call.context.span_id
        assert part.context.trace_id == call.context.trace_id
        assert call.start_time <= part.start_time <= part.end_time <= call.end_time
    return call, sorted(part.name for part in parts)


async def test_a_call_is_part_of_its_callers_trace_and_the_stores_are_part_of_it(
    worker, client, exporter
):
    await know_the_policy(worker, client)
    with structlog.testing.capture_logs() as lines:
        await client.step_up.CheckStepUp(
            checking(person()), metadata=(*SAMPLED, ("x-request-id", "r-1"))
        )
    call, parts = tree(exporter.get_finished_spans())
    assert (f"{call.parent.trace_id:032x}", f"{call.parent.span_id:016x}") == (TRACE, SPAN)
    assert call.parent.is_remote
    assert parts == ["redis", "sql_snapshot"]
    assert call.name == "stepup.v1.StepUpService/CheckStepUp"
    assert dict(call.attributes) == {
        "rpc.system": "grpc",
        "rpc.service": "stepup.v1.StepUpService",
        "rpc.method": "CheckStepUp",
        "rpc.grpc.status_code": 0,
        "stepup.request_id": "r-1",
        "stepup.caller": "local",
        "stepup.decision": "enrollment_required",
        "stepup.decision_reason": "not_enrolled",
    }
    assert call.status.status_code is StatusCode.UNSET
    [line] = [line for line in lines if line["event"] == "call"]
    assert line["trace_id"] == TRACE


async def test_of_calls_at_once_each_has_its_own_part_in_the_reads_that_they_share(
    worker, client, exporter
):
    await know_the_policy(worker, client)
    alice = person()
    app = await worker.enrol(alice)
    await worker.elevate(alice, app)
    # The first check of an enrollment reads SQL (S28).
    await client.step_up.CheckStepUp(checking(alice))
    parents = [f"00-{number:032x}-{SPAN}-0{number % 2}" for number in range(1, 21)]
    await asyncio.gather(
        *(
            client.step_up.CheckStepUp(checking(alice), metadata=(("traceparent", parent),))
            for parent in parents
        )
    )
    spans = exporter.get_finished_spans()
    for number in range(1, 21, 2):
        assert tree([s for s in spans if s.context.trace_id == number])[1] == ["redis"]
    assert len(spans) == 20


async def test_what_the_caller_does_not_record_is_not_recorded(worker, client, exporter):
    await worker.select(OSQUERY)
    with structlog.testing.capture_logs() as lines:
        await client.step_up.CheckStepUp(checking(person()), metadata=NOT_SAMPLED)
        await client.step_up.CheckStepUp(checking(person()))
    assert exporter.get_finished_spans() == ()
    assert [line["trace_id"] for line in lines if line["event"] == "call"] == [TRACE, None]


async def test_health_and_what_is_not_served_have_none(client, exporter):
    await refusal_of(client.call("stepup.v1.StepUpService/None", b"", SAMPLED))
    await client.call("grpc.health.v1.Health/Check", b"", SAMPLED)
    assert exporter.get_finished_spans() == ()


def echo(handler):
    return Method("test.Service", "Method", policy.ListOperationsRequest, handler)


@pytest.fixture
def pipeline(worker, traces):
    """Makes the pipeline of a worker, with spans."""

    def made(admit):
        return pipeline_of(worker, admit, traces.begin)

    return made


@pytest.fixture
def made_calls(pipeline, exporter):
    """Makes a call in the caller's trace; returns its span."""

    async def call(handler, admit=admit_local, metadata=SAMPLED):
        with suppress(RefusedError):
            await pipeline(admit).unary(echo(handler), b"", Invocation("ipv4:1", metadata))
        [span] = exporter.get_finished_spans()
        return span

    return call


async def test_a_store_that_is_not_there_is_an_error_of_ours(made_calls):
    async def handler(_request, _call):
        raise StoreUnavailableError("gone")

    span = await made_calls(handler)
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "STORE_UNAVAILABLE"
    assert span.attributes["rpc.grpc.status_code"] == grpc.StatusCode.UNAVAILABLE.value[0]


async def test_s11_an_error_has_neither_text_nor_stack_in_its_span(made_calls):
    async def handler(_request, _call):
        raise RuntimeError("the code 314159")

    span = await made_calls(handler)
    assert span.attributes["error.type"] == "INTERNAL"
    assert span.events == ()
    assert span.status.description is None
    assert "314159" not in span.to_json()


@pytest.mark.parametrize(
    "refusal", [CallerUnauthenticatedError("no token"), CallerNotPermittedError("not this method")]
)
async def test_s18_a_call_that_is_not_admitted_has_no_span_and_its_line_has_the_trace(
    pipeline, exporter, refusal
):
    async def refuse(_invocation):
        raise refusal

    with structlog.testing.capture_logs() as lines, pytest.raises(RefusedError):
        await pipeline(refuse).unary(echo(None), b"", Invocation("ipv4:1", SAMPLED))
    assert exporter.get_finished_spans() == ()
    assert [line["trace_id"] for line in lines] == [TRACE]


async def test_a_call_that_is_refused_later_is_its_callers_error(made_calls):
    async def handler(_request, _call):
        raise CallerNotPermittedError("not this tenant")

    span = await made_calls(handler)
    assert span.attributes["error.type"] == "CALLER_NOT_PERMITTED"
    assert span.status.status_code is StatusCode.UNSET


async def test_a_span_begins_when_its_call_was_received(made_calls):
    admitted_at = []

    async def admit(invocation):
        admitted_at.append(time.time_ns())
        return await admit_local(invocation)

    async def handler(_request, _call):
        return policy.ListOperationsResponse()

    span = await made_calls(handler, admit)
    assert span.start_time <= admitted_at[0]


async def test_each_span_is_counted(made_calls):
    async def handler(_request, _call):
        return policy.ListOperationsResponse()

    before = metric("stepup_spans_total")
    await made_calls(handler)
    assert metric("stepup_spans_total") == before + 1


@pytest.mark.parametrize(("ratio", "recorded"), [(0, 0), (1, 50)])
async def test_of_calls_without_a_trace_a_share_begins_one(exporter, ratio, recorded):
    traces = Traces(SimpleSpanProcessor(exporter), ratio)
    begun = [traces.begin("name", None, 1) for _ in range(50)]
    assert len({span.trace_id for span in begun if span}) == recorded


async def test_a_call_that_begins_a_trace_has_it_in_its_line(worker, exporter):
    traces = Traces(SimpleSpanProcessor(exporter), 1)
    async with served(worker, begin_span=traces.begin) as server:
        client = Client(server.target)
        with structlog.testing.capture_logs() as lines:
            await client.policy.ListOperations(policy.ListOperationsRequest())
        await client.close()
    [span] = exporter.get_finished_spans()
    assert span.parent is None
    assert [line["trace_id"] for line in lines if line["event"] == "call"] == [as_hex(span)[0]]


async def test_every_worker_is_an_instance_of_its_own(exporter, monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mfa")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=pod-1,zone=a")
    for _ in range(2):
        Traces(SimpleSpanProcessor(exporter), 1).begin("name", None, 1).end({}, failed=False)
    one, other = (span.resource.attributes for span in exporter.get_finished_spans())
    assert one["service.name"] == "mfa"
    assert one["zone"] == "a"
    assert one["service.instance.id"] != other["service.instance.id"]


UNARY = [path for path in METHODS if not METHODS[path].server_streaming]


@pytest.mark.parametrize("path", UNARY)
async def test_s11_no_span_names_a_tenant_or_a_person_whatever_the_method(client, exporter, path):
    payload = valid_request(path.rpartition("/")[2]).SerializeToString()
    with suppress(grpc.aio.AioRpcError):  # a refusal has a span as well
        await client.call(path, payload, SAMPLED)
    written = "".join(span.to_json() for span in exporter.get_finished_spans())
    assert path in written
    for told in ("acme", "alice"):
        assert told not in written
