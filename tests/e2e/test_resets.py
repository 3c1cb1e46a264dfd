"""VerifyOtp called and reset at once, again and again; `make soak` does so with every method."""

import asyncio
import time
from statistics import median

import grpc
import pytest
from stepup_tests.e2e.serving import serving
from stepup_tests.e2e.topologies import EMBEDDED
from stepup_tests.engine import http2
from stepup_tests.requests import valid_request

from tools.bench.servers import memory

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.topologies(EMBEDDED, reason="it is about one process"),
]

VERIFY = "/stepup.v1.StepUpService/VerifyOtp"
SECONDS = 4.0
MAX_GROWTH_BYTES = 64 * 2**20
"""Calls that were kept would add 170 MB in this time."""
CHECK_SECONDS = 2.0
END_SECONDS = 12.0


async def flood(port, ends):
    """Calls of VerifyOtp on one connection, each reset some milliseconds later, until a time."""
    message = valid_request("VerifyOtp").SerializeToString()
    connection = await http2.Connection.open(port)
    reading = asyncio.create_task(http2.Seen(answers_pings=True).collect(connection))
    made = 0
    while time.monotonic() < ends:
        streams = range(2 * made + 1, 2 * (made + 400) + 1, 2)
        await connection.send(*(http2.call(each, VERIFY, message=message) for each in streams))
        await asyncio.sleep(0.004)
        await connection.send(*map(http2.reset, streams))
        made += len(streams)
    reading.cancel()
    connection.abort()
    return made


async def probe(address, ends):
    """How long each check of another tenant took, one after the other."""
    request = valid_request("CheckStepUp")
    request.actor.tenant_id = "globex"
    took = []
    async with grpc.aio.insecure_channel(address) as channel:
        while time.monotonic() < ends:
            began = time.monotonic()
            await channel.unary_unary("/stepup.v1.StepUpService/CheckStepUp")(
                request.SerializeToString(), timeout=10
            )
            took.append(time.monotonic() - began)
            await asyncio.sleep(0.05)
    return took


async def both(address):
    ends = time.monotonic() + SECONDS
    port = int(address.rpartition(":")[2])
    return await asyncio.gather(flood(port, ends), probe(address, ends))


def test_s18_codes_whose_calls_are_reset_at_once_leave_nothing(tmp_path):
    with serving(tmp_path) as server:
        before = memory(server.pid).resident_bytes
        made, took = asyncio.run(both(server.address))
        assert made > 10_000
        # One check may be slow on a busy machine. Behind the calls of a flood all would be.
        assert median(took) < CHECK_SECONDS
        assert memory(server.pid).resident_bytes - before < MAX_GROWTH_BYTES
        began = time.monotonic()
        server.terminate()
        assert time.monotonic() - began < END_SECONDS
