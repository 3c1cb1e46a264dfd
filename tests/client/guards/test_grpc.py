"""Guards of gRPC servers: no method runs before `Allowed`, whatever its kind is."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import copy_context

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from stepup_tests.client.fixed_answers import (
    ACTOR,
    ALLOWED,
    REFUSALS,
    AsyncFixedAnswer,
    FixedAnswer,
)

from stepup.client.guards import Gate, allowed
from stepup.client.guards.gates import in_force
from stepup.client.guards.grpc_aio import AsyncStepUpInterceptor
from stepup.client.guards.grpc_server import StepUpInterceptor

SHELL, OSQUERY, FILES = (
    "response.start_remote_shell",
    "response.run_osquery",
    "response.collect_file",
)
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]
REFLECTION = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]
# Two services that are at hand: a unary method, one that streams answers, one that streams both.
UNARY, ANSWERS, BOTH = (
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
)
SERVICES = [HEALTH, REFLECTION]
METHODS = {
    UNARY: Gate(SHELL, lambda request: request.decode()),
    ANSWERS: Gate(OSQUERY, lambda request: request.decode()),
    BOTH: Gate(FILES, lambda context: dict(context.invocation_metadata())["host"]),
    **{
        f"/{HEALTH.full_name}/{method.name}": None
        for method in HEALTH.methods
        if method.name not in ("Check", "Watch")
    },
}
OPERATIONS = {UNARY: SHELL, ANSWERS: OSQUERY, BOTH: FILES}


class Handlers(grpc.GenericRpcHandler):
    """Every method answers with the request and the decision that allowed it."""

    def __init__(self, *, asynchronous):
        self.asynchronous = asynchronous
        self.runs = []

    def note(self, request):
        self.runs.append(request)
        return request + b" " + allowed().decision_id.encode()

    def service(self, details):
        make = {
            UNARY: grpc.unary_unary_rpc_method_handler,
            ANSWERS: grpc.unary_stream_rpc_method_handler,
            BOTH: grpc.stream_stream_rpc_method_handler,
        }[details.method]
        kind = "async_" if self.asynchronous else ""
        name = {UNARY: "unary", ANSWERS: "answers", BOTH: "both"}[details.method]
        return make(getattr(self, kind + name))

    def unary(self, request, _context):
        return self.note(request)

    def answers(self, request, _context):
        yield self.note(request)
        yield self.note(request)

    def both(self, requests, _context):
        for request in requests:
            yield self.note(request)

    async def async_unary(self, request, _context):
        return self.note(request)

    async def async_answers(self, request, context):
        await context.write(self.note(request))
        await context.write(self.note(request))

    async def async_both(self, requests, _context):
        async for request in requests:
            yield self.note(request)


@asynccontextmanager
async def served(answer, *, asynchronous, methods=METHODS):
    handlers = Handlers(asynchronous=asynchronous)
    service = (AsyncFixedAnswer if asynchronous else FixedAnswer)(answer)
    make = AsyncStepUpInterceptor if asynchronous else StepUpInterceptor
    guard = make(
        service, actor=lambda _request, _context: ACTOR, services=SERVICES, methods=methods
    )
    if asynchronous:
        server = grpc.aio.server(interceptors=[guard], handlers=[handlers])
    else:
        server = grpc.server(ThreadPoolExecutor(4), interceptors=[guard], handlers=[handlers])
    port = server.add_insecure_port("127.0.0.1:0")
    started = server.start()
    if asynchronous:
        await started
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel, handlers, service
    stopped = server.stop(0)
    await (stopped if asynchronous else asyncio.to_thread(stopped.wait))


async def call(channel, method):
    """Call a method; return its answers.

    A client of grpc, and not of grpc.aio, which loses the status of a call that a server ends while
    the client still sends.
    """

    def answers():
        metadata = [("host", "host-7")]
        if method == UNARY:
            return [channel.unary_unary(method)(b"host-7", timeout=10)]
        if method == ANSWERS:
            return list(channel.unary_stream(method)(b"host-7", timeout=10, metadata=metadata))
        requests = iter([b"a", b"b"])
        return list(channel.stream_stream(method)(requests, timeout=10, metadata=metadata))

    return await asyncio.to_thread(answers)


@pytest.fixture(params=[False, True], ids=["grpc", "grpc.aio"])
def asynchronous(request):
    return request.param


@pytest.mark.parametrize("method", OPERATIONS)
async def test_an_allowed_method_runs(asynchronous, method):
    async with served(ALLOWED, asynchronous=asynchronous) as (channel, handlers, service):
        answers = await call(channel, method)
    assert answers[0].endswith(b" d-1")
    assert len(answers) == len(handlers.runs) == (1 if method == UNARY else 2)
    assert service.asked == [("bob", OPERATIONS[method], "host-7")]


@pytest.mark.parametrize("method", OPERATIONS)
@pytest.mark.parametrize("kind", REFUSALS)
async def test_a_refused_method_does_not_run(asynchronous, method, kind):
    async with served(REFUSALS[kind], asynchronous=asynchronous) as (channel, handlers, _):
        with pytest.raises(grpc.RpcError) as refused:
            await call(channel, method)
    assert handlers.runs == []
    error, info, retry = refused.value, ErrorInfo(), RetryInfo()
    [details] = [
        value for key, value in error.trailing_metadata() if key == "grpc-status-details-bin"
    ]
    status = Status.FromString(details)
    assert (status.code, status.message) == (error.code().value[0], error.details())
    for detail in status.details:
        detail.Unpack(info) or detail.Unpack(retry)
    assert (info.domain, info.metadata["operation"]) == ("stepup", OPERATIONS[method])
    if kind == "unavailable":
        assert (error.code(), info.reason) == (grpc.StatusCode.UNAVAILABLE, "NO_DECISION")
        assert retry.retry_delay.ToMilliseconds() == 1500
        assert "secret" not in error.details()
        return
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    wanted = {
        "step-up": ("STEP_UP_REQUIRED", "d-2", "900", "false"),
        "challenge": ("STEP_UP_REQUIRED", "d-3", "", "true"),
        "enrollment": ("ENROLLMENT_REQUIRED", "d-4", "300", "false"),
    }[kind]
    found = info.metadata
    assert wanted == (
        info.reason,
        found["decision_id"],
        found.get("max_age", ""),
        found["challenge"],
    )


@pytest.mark.parametrize("answer", [RuntimeError("a bug"), None, True])
async def test_whatever_else_happens_lets_no_method_run(asynchronous, answer):
    async with served(answer, asynchronous=asynchronous) as (channel, handlers, _):
        for method in OPERATIONS:
            with pytest.raises(grpc.RpcError):
                await call(channel, method)
    assert handlers.runs == []


async def test_a_method_that_would_block_a_server_of_grpc_aio_does_not_run():
    async with served(ALLOWED, asynchronous=True) as (channel, handlers, _):
        handlers.asynchronous = False
        with pytest.raises(grpc.RpcError):
            await call(channel, UNARY)
    assert handlers.runs == []


def test_the_answer_in_force_may_end_in_another_context():
    block = in_force(ALLOWED)
    copy_context().run(block.__enter__)
    block.__exit__(None, None, None)
    with pytest.raises(LookupError):
        allowed()


async def test_a_guarded_method_that_the_server_does_not_have_is_unimplemented(asynchronous):
    async with served(ALLOWED, asynchronous=asynchronous) as (channel, handlers, _):
        handlers.service = lambda _details: None
        with pytest.raises(grpc.RpcError) as refused:
            await call(channel, UNARY)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("make", [StepUpInterceptor, AsyncStepUpInterceptor])
def test_no_method_of_a_guarded_service_is_forgotten(make):
    def guard(methods):
        return make(FixedAnswer(ALLOWED), actor=None, services=SERVICES, methods=methods)

    less = {name: needed for name, needed in METHODS.items() if name != ANSWERS}
    with pytest.raises(ValueError, match=r"need an operation, or None: /grpc.health.v1.*Watch"):
        guard(less)
    with pytest.raises(ValueError, match="no guarded service has these methods: /acme"):
        guard({**METHODS, "/acme.v1.Hosts/List": SHELL})
    mapped = guard({**METHODS, UNARY: SHELL}).method_map()
    assert (mapped[UNARY], mapped[BOTH]) == (SHELL, FILES)
    assert None in mapped.values() or len(mapped) == 3
