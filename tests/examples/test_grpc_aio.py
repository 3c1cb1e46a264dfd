"""examples/grpc_aio: the client meets the refusal of the guard, and repeats its call."""

import grpc
import pytest

from stepup.client import AsyncStepUpClient


@pytest.fixture
async def backend(example):
    """The module of the backend, and a stub of it."""
    module = example("grpc_aio/server")
    async with AsyncStepUpClient.from_env() as stepup:
        server = module.server_with_guard(stepup)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield module.hosts_pb2_grpc.HostsStub(channel)
        await server.stop(None)


async def test_the_client_asks_for_a_code_and_repeats_the_call(backend, example, bob):
    asked = []

    def ask_for_code():
        code = bob.code()
        asked.append(code if asked else f"{(int(code) + 1) % 10**6:06d}")
        return asked[-1]

    client = example("grpc_aio/client")
    answer = await client.start_shell(backend, "host-7", ask_for_code)
    assert answer.session == "host-7/1"
    assert len(asked) == 2


@pytest.mark.usefixtures("bob")
async def test_the_client_asks_for_no_code_where_only_an_approval_helps(
    backend, example, stepup_server, tenant
):
    stepup_server.select(
        tenant, ["response.run_osquery"], every_time=["response.start_remote_shell"]
    )
    with pytest.raises(grpc.aio.AioRpcError, match="code is required"):
        await example("grpc_aio/client").start_shell(backend, "host-7", pytest.fail)


async def test_a_caller_without_a_session_starts_nothing(backend, example):
    messages = example("grpc_aio/client").hosts_pb2
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await backend.StartShell(messages.StartShellRequest(host="host-7"), timeout=5)
    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
