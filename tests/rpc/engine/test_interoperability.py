"""Clients that were not written here, on both engines."""

import asyncio

import pytest
from rpc.engine.conftest import OPTIONS
from rpc.engine.interop.cases import run_all
from rpc.engine.interop.clients import AioClient, BufCurl, GrpCurl, SyncClient
from rpc.engine.interop.envoy import in_front_of
from rpc.engine.interop.grpc_js import GrpcJs
from rpc.engine.interop.service import InteropService


@pytest.fixture
async def service(make_engine):
    """The service, served; `target` is where."""
    service = InteropService()
    engine = make_engine(service.served, OPTIONS, 100)
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
    async with asyncio.timeout(20):
        await service.begun.wait()
        call.cancel()
        await service.stopped.wait()
    await asyncio.wait([call])
