"""The pipeline and the handlers without any gRPC engine: bytes in, bytes or a refusal out."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import UUID

import grpc
import pytest
import structlog
from stepup_tests.callers import admit_by_header
from stepup_tests.clock import ManualClock
from stepup_tests.metrics import metric
from stepup_tests.people import person
from stepup_tests.requests import METHODS, answer_type, path_of, valid_request
from stepup_tests.wire import on_wire, pipeline_of
from stepup_tests.worker import OSQUERY

from stepup.domain.errors import CallerUnauthenticatedError, StoreUnavailableError
from stepup.rpc.engine import Invocation
from stepup.rpc.pipeline.call import Method
from stepup.rpc.server.server import methods
from stepup.rpc.wire.errors import RefusedError
from stepup.v1 import challenge_service_pb2 as challenge
from stepup.v1 import policy_service_pb2 as policy
from stepup.v1 import step_up_service_pb2 as step_up

TRACE_PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PEER = Invocation("ipv4:127.0.0.1:4711")


@pytest.fixture
def pipeline(worker):
    return pipeline_of(worker)


@pytest.fixture
def served_methods(worker):
    return {f"{each.service}/{each.name}": each for each in methods(worker.application.handlers)}


async def test_every_method_of_the_contract_is_served(served_methods):
    assert set(served_methods) == set(METHODS)


async def test_a_method_streams_where_the_contract_says_so(served_methods):
    streams = {path for path, each in served_methods.items() if each.streams}
    assert streams == {path for path in METHODS if METHODS[path].server_streaming}


OF_OPERATORS = path_of("ImportAuthenticators")
"""The request of a person is valid, and refused for the role."""
UNARY = [path for path in METHODS if not METHODS[path].server_streaming and path != OF_OPERATORS]


@pytest.mark.parametrize("path", UNARY)
async def test_a_valid_request_is_answered_or_refused_for_what_is_stored(
    pipeline, served_methods, path
):
    """So that what wrong input is refused for is due to what is wrong with it."""
    payload = valid_request(path.rpartition("/")[2]).SerializeToString()
    try:
        answer = await pipeline.unary(served_methods[path], payload, PEER)
    except RefusedError as refused:
        assert refused.status.code in {  # noqa: PT017  # an answer will do as well
            grpc.StatusCode.FAILED_PRECONDITION,
            grpc.StatusCode.ABORTED,
            grpc.StatusCode.NOT_FOUND,
            grpc.StatusCode.UNAUTHENTICATED,  # no portal session
        }
    else:
        answer_type(path).FromString(answer)


async def test_the_caller_is_who_its_credentials_say(world, worker, served_methods):
    pipeline = pipeline_of(worker, admit_by_header)
    request = step_up.CheckStepUpRequest(actor=on_wire(person()), operation=OSQUERY)
    await pipeline.unary(
        served_methods["stepup.v1.StepUpService/CheckStepUp"],
        request.SerializeToString(),
        Invocation("", [("x-caller", "playbook-engine")]),
    )
    [line] = world.decisions()
    assert line["caller"] == "playbook-engine"


def echo(handler, *, streams=False):
    """A method with a handler of the test's own."""
    return Method("test.Service", "Method", policy.ListOperationsRequest, handler, streams)


async def seen_by_the_handler(pipeline, invocation=PEER):
    """The call as a handler sees it."""
    seen = []

    async def handler(_request, call):
        seen.append(call)
        return policy.ListOperationsResponse()

    await pipeline.unary(echo(handler), b"", invocation)
    return seen[0]


class _EachTimeLater(ManualClock):
    """A clock on which time passes whenever it is read."""

    def now(self):
        self.advance(seconds=31)
        return super().now()


async def test_s1_the_clock_is_read_once_per_call(worker):
    clock = _EachTimeLater()
    call = await seen_by_the_handler(pipeline_of(worker, clock=clock))
    assert call.received_at == ManualClock.now(clock)


async def test_s1_a_call_counts_from_its_receipt_not_from_its_turn(pipeline, clock):
    turn = asyncio.Event()
    seen = []

    async def handler(_request, call):
        await turn.wait()
        seen.append(call)
        return policy.ListOperationsResponse()

    received = clock.now()
    under_way = asyncio.create_task(pipeline.unary(echo(handler), b"", PEER))
    await asyncio.sleep(0)
    clock.advance(minutes=1)
    turn.set()
    await under_way
    assert seen[0].received_at == received


async def test_a_caller_that_cannot_be_named_reaches_no_handler(worker):
    async def refuse(_invocation):
        raise StoreUnavailableError("the keys of the issuer cannot be read")

    async def handler(_request, _call):
        raise AssertionError("reached")

    with pytest.raises(RefusedError) as refused:
        await pipeline_of(worker, refuse).unary(echo(handler), b"", PEER)
    assert refused.value.status.reason == "STORE_UNAVAILABLE"


@pytest.mark.parametrize("given", ["req-1", "x", "x" * 128, " ~"])
async def test_a_request_id_is_taken_over(pipeline, given):
    call = await seen_by_the_handler(pipeline, Invocation("", [("x-request-id", given)]))
    assert call.request_id == given


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        [("x-request-id", "")],
        [("x-request-id", "x" * 129)],
        [("x-request-id", "a\nb")],
        [("x-request-id", "ä")],
        [("x-request-id", b"bytes")],
        [("x-request-id-bin", b"bytes")],
    ],
    ids=["none", "empty", "too long", "control character", "no ASCII", "bytes", "another key"],
)
async def test_a_request_id_that_does_not_do_is_replaced(pipeline, metadata):
    call = await seen_by_the_handler(pipeline, Invocation("", metadata))
    assert UUID(call.request_id)


async def test_no_two_calls_of_any_server_are_given_the_same_request_id(worker):
    servers = [pipeline_of(worker) for _ in range(50)]
    made = [(await seen_by_the_handler(each, PEER)).request_id for each in servers * 20]
    assert len(set(made)) == 1000


async def test_of_two_request_ids_the_first_counts(pipeline):
    metadata = [("x-request-id", "one"), ("x-request-id", "two")]
    assert (await seen_by_the_handler(pipeline, Invocation("", metadata))).request_id == "one"


@asynccontextmanager
async def finish_line():
    """The line that is written when the one call of the block has ended."""
    found = {}
    with structlog.testing.capture_logs() as lines:
        yield found
    [line] = [line for line in lines if line["event"] == "call"]
    found.update(line)


async def test_an_answered_call_has_one_line(pipeline, served_methods):
    method = served_methods["stepup.v1.PolicyService/ListOperations"]
    async with finish_line() as line:
        await pipeline.unary(
            method,
            b"",
            Invocation(PEER.peer, [("x-request-id", "r-1"), ("traceparent", TRACE_PARENT)]),
        )
    assert line.pop("duration_ms") >= 0
    assert line == {
        "event": "call",
        "log_level": "info",
        "method": "stepup.v1.PolicyService/ListOperations",
        "request_id": "r-1",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "peer": "ipv4:127.0.0.1:4711",
        "caller": "local",
        "code": "OK",
        "reason": None,
    }


async def test_a_check_has_its_decision_in_its_line(worker, pipeline, served_methods):
    await worker.select(OSQUERY)
    request = step_up.CheckStepUpRequest(actor=on_wire(person()), operation=OSQUERY)
    async with finish_line() as line:
        await pipeline.unary(
            served_methods["stepup.v1.StepUpService/CheckStepUp"],
            request.SerializeToString(),
            PEER,
        )
    assert (line["code"], line["reason"]) == ("OK", None)
    assert (line["decision"], line["decision_reason"]) == ("enrollment_required", "not_enrolled")


async def test_a_batch_has_each_decision_in_its_line_in_order(worker, pipeline, served_methods):
    await worker.select(OSQUERY)
    operations = ("response.collect_file", OSQUERY)
    request = step_up.BatchCheckStepUpRequest(
        actor=on_wire(person()),
        checks=[step_up.OperationCheck(operation=each) for each in operations],
    )
    async with finish_line() as line:
        await pipeline.unary(
            served_methods["stepup.v1.StepUpService/BatchCheckStepUp"],
            request.SerializeToString(),
            PEER,
        )
    assert line["decisions"] == [
        "allowed/operation_not_selected",
        "enrollment_required/not_enrolled",
    ]


async def test_a_verification_has_its_outcome_in_its_line(worker, clock, pipeline, served_methods):
    alice = person()
    app = await worker.enrol(alice)
    request = step_up.VerifyOtpRequest(actor=on_wire(alice), code=app.wrong_code(clock.now()))
    async with finish_line() as line:
        await pipeline.unary(
            served_methods["stepup.v1.StepUpService/VerifyOtp"], request.SerializeToString(), PEER
        )
    assert (line["code"], line["outcome"]) == ("OK", "rejected")


async def test_an_answer_has_its_outcome_in_its_line(worker, clock, pipeline, served_methods):
    alice = person()
    app = await worker.enrol(alice)
    request = challenge.AnswerChallengeRequest(
        actor=on_wire(alice),
        challenge_id=str(await worker.challenge(alice)),
        code=app.wrong_code(clock.now()),
    )
    async with finish_line() as line:
        await pipeline.unary(
            served_methods["stepup.v1.ChallengeService/AnswerChallenge"],
            request.SerializeToString(),
            PEER,
        )
    assert (line["code"], line["outcome"]) == ("OK", "rejected")


@asynccontextmanager
async def one_call_counted(method, caller, code):
    """Demand that one more call is counted, and its duration."""
    labels = {"method": method, "caller": caller, "code": code}
    before = metric("stepup_calls_total", **labels)
    durations = metric("stepup_call_seconds_count", method=method)
    yield
    assert metric("stepup_calls_total", **labels) == before + 1
    assert metric("stepup_call_seconds_count", method=method) == durations + 1


async def test_a_call_is_counted_by_method_caller_and_status(pipeline, served_methods):
    method = served_methods["stepup.v1.PolicyService/GetPolicy"]
    async with one_call_counted("PolicyService/GetPolicy", "local", "INVALID_ARGUMENT"):
        with pytest.raises(RefusedError):
            await pipeline.unary(method, b"", PEER)
    method = served_methods["stepup.v1.PolicyService/ListOperations"]
    async with one_call_counted("PolicyService/ListOperations", "local", "OK"):
        await pipeline.unary(method, b"", PEER)


async def test_a_refused_call_has_its_status_and_reason(pipeline, served_methods):
    method = served_methods["stepup.v1.PolicyService/GetPolicy"]
    async with finish_line() as line:
        with pytest.raises(RefusedError):
            await pipeline.unary(method, b"", PEER)
    assert (line["code"], line["reason"]) == ("INVALID_ARGUMENT", "INVALID_FIELD")


async def test_s15_a_caller_that_is_not_let_in_is_known_by_its_address_in_the_line(worker):
    async def refuse(_invocation):
        raise CallerUnauthenticatedError("a client certificate is required")

    async with finish_line() as line:
        with pytest.raises(RefusedError):
            await pipeline_of(worker, refuse).unary(echo(None), b"", PEER)
    assert (line["caller"], line["peer"]) == (None, "ipv4:127.0.0.1:4711")
    assert (line["code"], line["reason"]) == ("UNAUTHENTICATED", "CALLER_UNAUTHENTICATED")


async def test_a_stream_that_breaks_off_ends_with_a_status(pipeline):
    async def handler(_request, _call):
        yield policy.ListOperationsResponse()
        raise StoreUnavailableError("gone")

    async with finish_line() as line:
        stream = pipeline.stream(echo(handler, streams=True), b"", PEER)
        await anext(stream)
        with pytest.raises(RefusedError):
            await anext(stream)
    assert line["code"] == "UNAVAILABLE"


async def test_a_call_that_is_given_up_is_cancelled_in_its_line(pipeline):
    reached = asyncio.Event()

    async def handler(_request, _call):
        reached.set()
        await asyncio.Event().wait()

    async with finish_line() as line:
        under_way = asyncio.create_task(pipeline.unary(echo(handler), b"", PEER))
        await reached.wait()
        under_way.cancel()
        await asyncio.wait([under_way])
    assert line["code"] == "CANCELLED"


async def test_a_stream_that_is_given_up_is_cancelled_in_its_line(pipeline):
    async def handler(_request, _call):
        yield policy.ListOperationsResponse()
        yield policy.ListOperationsResponse()

    async with finish_line() as line:
        stream = pipeline.stream(echo(handler, streams=True), b"", PEER)
        await anext(stream)
        await stream.aclose()
    assert line["code"] == "CANCELLED"


async def test_a_stream_that_is_given_up_ends_its_handler_at_once(pipeline):
    has_ended = False

    async def handler(_request, _call):
        nonlocal has_ended
        try:
            yield policy.ListOperationsResponse()
        finally:
            has_ended = True

    stream = pipeline.stream(echo(handler, streams=True), b"", PEER)
    await anext(stream)
    await stream.aclose()
    assert has_ended


@pytest.mark.parametrize("waits", [False, True])
async def test_a_call_that_waits_for_people_is_counted_and_its_duration_is_not(pipeline, waits):
    async def handler(_request, _call):
        yield policy.ListOperationsResponse()

    def counts():
        return (
            metric("stepup_calls_total", method="Service/Method", caller="local", code="OK"),
            metric("stepup_call_seconds_count", method="Service/Method"),
        )

    method = replace(echo(handler, streams=True), waits=waits)
    calls, durations = counts()
    assert [each async for each in pipeline.stream(method, b"", PEER)]
    assert counts() == (calls + 1, durations + (not waits))


async def test_s11_no_line_has_anything_of_the_payload(worker, clock, pipeline, served_methods):
    alice = person(session="a-session-like-a-password")
    app = await worker.enrol(alice)
    code, wrong = app.code(clock.now()), app.wrong_code(clock.now())
    method = served_methods["stepup.v1.StepUpService/VerifyOtp"]
    with structlog.testing.capture_logs() as lines:
        for typed in (code, wrong, f"{code} "):
            request = step_up.VerifyOtpRequest(actor=on_wire(alice), code=typed)
            try:
                await pipeline.unary(method, request.SerializeToString(), PEER)
            except RefusedError:
                continue
    assert len(lines) == 3
    written = str([{**line, "duration_ms": None, "request_id": None} for line in lines])
    for secret in (code, wrong, "a-session-like-a-password", "alice", "acme"):
        assert secret not in written
