"""S18: what a flood of refused calls writes to the log of a server that runs."""

import asyncio

import grpc
import pytest
from stepup_tests.e2e.guarded import CLIENTS, SERVERS, SOAR, configured, tls
from stepup_tests.e2e.serving import serving
from stepup_tests.e2e.topologies import DIRECT

from stepup.rpc.pipeline.finish_lines import REFUSED

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.topologies(*DIRECT, reason="callers' certificates do not get past Envoy"),
]
CALLS = 2000
STRANGER = "spiffe://acme/ns/prod/sa/stranger"


async def flood(address):
    client = CLIENTS.client(STRANGER)
    credentials = grpc.ssl_channel_credentials(SERVERS.chain, client.key, client.chain)
    options = (("grpc.ssl_target_name_override", "localhost"),)
    codes = []
    async with grpc.aio.secure_channel(address, credentials, options) as channel:
        ask = channel.unary_unary("/stepup.v1.StepUpService/CheckStepUp")

        async def call():
            for _ in range(CALLS // 50):
                try:
                    await ask(b"", timeout=30)
                except grpc.aio.AioRpcError as error:
                    codes.append(error.code())

        await asyncio.gather(*(call() for _ in range(50)))
    return codes


def test_s18_a_flood_of_refused_calls_writes_a_bounded_log(tmp_path):
    rules = f'[[callers]]\nname = "soar"\nidentities = ["{SOAR}"]\n'
    with serving(tmp_path, *configured(tmp_path, tls(tmp_path), rules), insecure=False) as server:
        codes = asyncio.run(flood(server.address))
        assert codes == [grpc.StatusCode.PERMISSION_DENIED] * CALLS
        server.terminate()
        calls = server.logged("call")
        [summary] = server.logged("calls_not_logged")
        size = server.stderr.stat().st_size
    assert {line["reason"] for line in calls} == {"CALLER_NOT_PERMITTED"}
    assert REFUSED.burst <= len(calls) <= REFUSED.burst + 10
    assert summary["calls"] + len(calls) == CALLS
    assert size < 100_000
