"""Calls that wait take no place from others, are limited, and leave nothing behind (S26)."""

import asyncio
from contextlib import suppress

import grpc
import pytest
from stepup_tests.engine import http2
from stepup_tests.metrics import metric
from stepup_tests.wire import refusal_of

from stepup.rpc.engine.core import CoreEngine

CALL = "/test.Service/Call"
WAIT = "/test.Service/Wait"
BEGIN = "/test.Service/Begin"
IN_FLIGHT = 3
WAITING = 5


class Waiting:
    """A method whose calls wait until `end`; `running` is how many have begun and not ended."""

    def __init__(self):
        self.running = 0
        self.begun = 0
        self.may_end = asyncio.Event()

    async def answers(self, payloads, _invocation):
        self.running += 1
        try:
            async for payload in payloads:
                yield payload
                await self.may_end.wait()
                yield b"end"
                return
        finally:
            self.running -= 1

    async def begin(self, _payloads, _invocation):
        """A call that never has an answer."""
        self.begun += 1
        await asyncio.Event().wait()
        yield

    async def are(self, number):
        async with asyncio.timeout(10):
            while self.running != number:  # noqa: ASYNC110  # no event announces it
                await asyncio.sleep(0.005)


async def echo(payload, _invocation):
    return payload


@pytest.fixture
def waiting():
    return Waiting()


@pytest.fixture
def serve(serving, waiting):
    def serve(**limits):
        return serving(
            unary={CALL: echo},
            stream={WAIT: waiting.answers, BEGIN: waiting.begin},
            waits={WAIT, BEGIN},
            **({"max_in_flight": IN_FLIGHT, "waiting": WAITING} | limits),
        )

    return serve


async def waits(port, number, channel=None, **options):
    """Calls that have got their first answer."""
    calls = []
    for _ in range(number):
        method = (channel or port.channel).stream_stream(WAIT)
        call = method(iter([b"now"]), **options)
        assert await call.read() == b"now"
        calls.append(call)
    return calls


async def ended(call):
    with suppress(grpc.RpcError, asyncio.CancelledError):
        while await call.read() is not grpc.aio.EOF:
            pass
    return await call.code()


async def test_s26_calls_that_wait_hold_no_place_among_those_in_flight(serve, waiting):
    async with serve() as port:
        calls = await waits(port, WAITING)
        await port.has_forgotten_all_calls()
        waiting.may_end.set()
        assert [await call.read() for call in calls] == [b"end"] * WAITING
        assert [await ended(call) for call in calls] == [grpc.StatusCode.OK] * WAITING


async def test_s26_until_its_first_answer_a_call_is_in_flight(serve, waiting):
    async with serve() as port:
        calls = [asyncio.create_task(ended(port.stream(BEGIN))) for _ in range(IN_FLIGHT)]
        async with asyncio.timeout(10):
            while waiting.begun < IN_FLIGHT:  # noqa: ASYNC110  # no event announces it
                await asyncio.sleep(0.005)
        refused = await refusal_of(port.unary(CALL))
        assert (refused.code, refused.reason) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "OVERLOADED",
        )
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        await port.has_forgotten_all_calls()


async def test_s26_calls_that_wait_are_limited_and_a_refusal_is_counted(serve, waiting):
    before = metric("stepup_overload_refusals_total", cause="waiting")
    async with serve() as port:
        calls = await waits(port, WAITING)
        refused = await refusal_of(anext(aiter(port.stream(WAIT))))
        assert (refused.code, refused.reason) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "WAITING_LIMIT",
        )
        await waiting.are(WAITING)
        calls[0].cancel()
        await waiting.are(WAITING - 1)
        await waits(port, 1)
        # The refused call has given its place in flight back, too.
        await port.has_forgotten_all_calls()
    assert metric("stepup_overload_refusals_total", cause="waiting") == before + 1


@pytest.mark.parametrize("end", ["cancelled", "deadline", "connection"])
async def test_a_client_that_is_gone_leaves_nothing_behind(serve, waiting, end):
    async with serve() as port:
        channel = grpc.aio.insecure_channel(port.target)
        calls = await waits(port, WAITING, channel, timeout=1 if end == "deadline" else None)
        if end == "cancelled":
            for call in calls:
                call.cancel()
        elif end == "connection":
            await channel.close()
        await waiting.are(0)
        # All places are free again.
        await waits(port, WAITING)
        await port.has_forgotten_all_calls()
        await channel.close()


async def test_a_stop_ends_calls_that_wait_after_the_grace(serve, waiting):
    async with serve() as port:
        [call] = await waits(port, 1)
        async with asyncio.timeout(10):
            await port.engine.stop(0.1)
            await ended(call)
        await waiting.are(0)


async def test_a_stop_lets_calls_that_wait_end_within_the_grace(serve, waiting):
    async with serve() as port:
        [call] = await waits(port, 1)
        stopping = asyncio.create_task(port.engine.stop(30))
        await asyncio.sleep(0)
        waiting.may_end.set()
        assert await call.read() == b"end"
        assert await ended(call) is grpc.StatusCode.OK
        async with asyncio.timeout(10):
            await stopping


async def test_s26_a_client_that_reads_no_answer_holds_no_place_in_flight(
    serve, waiting, make_engine
):
    async with serve(answer_seconds=0.3) as port:
        connection = await http2.Connection.open(port.number, INITIAL_WINDOW_SIZE=0)
        seen = http2.Seen(answers_pings=True)
        reading = asyncio.create_task(seen.collect(connection))
        calls = (http2.call(each, WAIT, message=b"now") for each in (1, 3, 5))
        await connection.send(*calls)
        await waiting.are(IN_FLIGHT)
        await port.has_forgotten_all_calls()
        if make_engine is not CoreEngine:  # grpc.aio does not limit the time
            connection.abort()
        await waiting.are(0)
        connection.abort()
        reading.cancel()
        await asyncio.wait([reading])
        await waits(port, WAITING)
