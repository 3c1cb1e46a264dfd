"""Clients that were not written here, on both engines."""

import asyncio
import threading
from contextlib import asynccontextmanager

import grpc
import pytest
from stepup_tests.engine.options import OPTIONS
from stepup_tests.interop.cases import run_all
from stepup_tests.interop.clients import AioClient, BufCurl, GrpCurl, SyncClient
from stepup_tests.interop.envoy import in_front_of
from stepup_tests.interop.grpc_js import GrpcJs
from stepup_tests.interop.schema import SERVICE, message
from stepup_tests.interop.service import InteropService

from stepup.rpc.engine import CallLimits


@pytest.fixture
async def service(make_engine):
    """The service, served; `target` is where."""
    service = InteropService()
    engine = make_engine(service.served, OPTIONS, CallLimits())
    service.target = f"127.0.0.1:{engine.listen('127.0.0.1:0', None)}"
    await engine.start()
    yield service
    await engine.stop(0)


@pytest.fixture(params=[AioClient, SyncClient, GrpCurl, BufCurl, GrpcJs])
async def client(request, service):
    async with request.param.started(service.target) as client:
        yield client


@pytest.fixture(params=[AioClient, GrpcJs])
async def client_of_envoy(request, service):
    async with in_front_of(service.target) as target, request.param.started(target) as client:
        yield client


@asynccontextmanager
async def directly(target):
    """Nothing in between."""
    yield target


@pytest.fixture(params=[directly, in_front_of], ids=["directly", "envoy"])
async def target(request, service):
    """Where the service is called."""
    async with request.param(service.target) as target:
        yield target


async def test_every_case_passes(client):
    await run_all(client)


async def test_every_case_passes_with_envoy_in_between(client_of_envoy):
    await run_all(client_of_envoy)


async def test_a_call_that_is_given_up_is_stopped(service, client):
    await _give_up(service, client)


async def test_a_call_that_is_given_up_is_stopped_with_envoy_in_between(service, client_of_envoy):
    await _give_up(service, client_of_envoy)


async def _give_up(service, client):
    for_ever = {"responseParameters": [{"size": 1, "intervalUs": 60_000_000}]}
    call = asyncio.create_task(client.call("TestService/FullDuplexCall", for_ever))
    await _begun(service)
    call.cancel()
    await _stopped(service)
    await asyncio.wait([call])


# gRPC's cases cancel_after_begin and cancel_after_first_response: for clients that tell how a call
# that they have cancelled has ended, and can keep a stream of requests open. Here work begins with
# the first message (S26), so that cancel_after_begin sends one.


async def test_cancel_after_begin(service, target):
    async with grpc.aio.insecure_channel(target) as channel:
        call = channel.stream_unary(f"/{SERVICE}/StreamingInputCall")()
        await call.write(b"")
        await _begun(service)
        call.cancel()
        assert await call.code() is grpc.StatusCode.CANCELLED
        await _stopped(service)


async def test_cancel_after_begin_in_threads(service, target):
    may_end = threading.Event()

    def one_request():
        yield b""
        may_end.wait()

    with grpc.insecure_channel(target) as channel:
        call = channel.stream_unary(f"/{SERVICE}/StreamingInputCall").future(one_request())
        await _begun(service)
        call.cancel()
        assert call.code() is grpc.StatusCode.CANCELLED
        await _stopped(service)
        may_end.set()


async def test_cancel_after_first_response(service, target):
    request = message("StreamingOutputCallRequest")()
    request.response_parameters.add(size=31_415)
    request.payload.body = bytes(27_182)
    async with grpc.aio.insecure_channel(target) as channel:
        call = channel.stream_stream(f"/{SERVICE}/FullDuplexCall")()
        await call.write(request.SerializeToString())
        response = message("StreamingOutputCallResponse").FromString(await call.read())
        assert response.payload.body == bytes(31_415)
        call.cancel()
        assert await call.code() is grpc.StatusCode.CANCELLED
        await _stopped(service)


async def _begun(service):
    async with asyncio.timeout(20):
        await service.begun.wait()


async def _stopped(service):
    async with asyncio.timeout(20):
        await service.stopped.wait()
