"""S18: whatever a client does to the port, the others are served."""

import asyncio
import random
from contextlib import suppress

import grpc
import pytest
import structlog
from stepup_tests.people import person
from stepup_tests.requests import valid_request
from stepup_tests.wire import Client, on_wire, refusal_of

from stepup.v1 import policy_service_pb2 as policy
from stepup.v1 import step_up_service_pb2 as step_up

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, HEADERS, CONTINUATION, RST_STREAM, PING = 0x4, 0x1, 0x9, 0x3, 0x6
VERIFY = "stepup.v1.StepUpService/VerifyOtp"


def frame(kind, payload=b"", *, flags=0, stream=0):
    """An HTTP/2 frame (RFC 9113 §4.1)."""
    return (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
    )


OPENING = PREFACE + frame(SETTINGS)
NOISE = random.Random(18).randbytes(256 * 1024)  # noqa: S311  # the same in each run
RAW = {
    "nothing": b"",
    "noise": NOISE,
    "HTTP/1.1": b"POST /stepup.v1.StepUpService/VerifyOtp HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "half of the preface": PREFACE[:10],
    "noise in HTTP/2": OPENING + NOISE,
    "a frame far beyond the limit": OPENING + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01" + NOISE,
    "headers without an end": OPENING
    + frame(HEADERS, bytes(1000), stream=1)
    + frame(CONTINUATION, bytes(16_000), stream=1) * 1000,
    "streams that are reset at once": OPENING
    + b"".join(
        frame(HEADERS, b"\x82", flags=0x4, stream=number)
        + frame(RST_STREAM, bytes(4), stream=number)
        for number in range(1, 20_000, 2)
    ),
    "a flood of pings": OPENING + frame(PING, bytes(8)) * 20_000,
    "a flood of settings": OPENING + frame(SETTINGS) * 20_000,
}


async def sent(target, octets):
    """Send octets, and take what comes, for a while."""
    host, _, port = target.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(0.5):
                writer.write(octets)
                await writer.drain()
                while await reader.read(65536):
                    pass
    finally:
        writer.close()


async def still_answers(client):
    async with asyncio.timeout(20):
        answer = await client.policy.ListOperations(policy.ListOperationsRequest())
    return bool(answer.categories)


@pytest.mark.parametrize("octets", RAW.values(), ids=RAW)
async def test_s18_raw_bytes_reach_no_handler_and_keep_nobody_out(running, client, octets):
    with structlog.testing.capture_logs() as lines:
        await sent(running.target, octets)
    assert lines == []
    assert await still_answers(client)


async def test_s18_connections_that_say_nothing_keep_nobody_out(running, client):
    host, _, port = running.target.rpartition(":")
    silent = [await asyncio.open_connection(host, int(port)) for _ in range(300)]
    assert await still_answers(client)
    for _, writer in silent:
        writer.close()


async def test_s18_a_message_that_unpacks_to_more_than_128_kib_is_refused(running):
    """It has 58 KB on the wire, and would have 60 MB in memory."""
    channel = grpc.aio.insecure_channel(running.target, compression=grpc.Compression.Gzip)
    refusal = await refusal_of(channel.unary_unary(f"/{VERIFY}")(bytes(60_000_000)))
    await channel.close()
    assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refusal.message == "Decompressed message larger than max"


@pytest.fixture
async def another(running):
    """A client with a connection of its own."""
    another = Client(running.target, options=[("grpc.use_local_subchannel_pool", 1)])
    yield another
    await another.close()


async def test_s18_calls_that_are_cancelled_at_once_leave_nothing_behind(client, another, worker):
    request = valid_request("VerifyOtp").SerializeToString()
    before = len(asyncio.all_tasks())
    for _ in range(20):
        calls = [client.channel.unary_unary(f"/{VERIFY}")(request) for _ in range(100)]
        await asyncio.sleep(0.01)
        for call in calls:
            call.cancel()
    assert await still_answers(another)
    async with asyncio.timeout(20):
        # Some calls have their turn before the server has seen that their client is gone.
        while len(asyncio.all_tasks()) >= before + 20:  # of 2,000 calls
            await worker.application.codes.drain()
            await asyncio.sleep(0.01)


async def test_s18_a_client_that_reads_nothing_keeps_nobody_out(client, worker):
    """Each export is longer than what HTTP/2 sends unasked: 64 KiB."""
    for _ in range(300):
        await worker.revoke(person())
    export = client.channel.unary_stream("/stepup.v1.AuditService/ExportAuditEvents")
    unread = [export(valid_request("ExportAuditEvents").SerializeToString()) for _ in range(50)]
    request = step_up.CheckStepUpRequest(actor=on_wire(person()), operation="response.run_osquery")
    async with asyncio.timeout(20):
        await client.step_up.CheckStepUp(request)
    for call in unread:
        call.cancel()
