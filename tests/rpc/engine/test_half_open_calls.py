"""S26: calls whose message does not arrive, and answers that nobody reads, keep nobody out."""

import asyncio
from contextlib import asynccontextmanager, suppress

import grpc
import pytest
from stepup_tests.engine import http2
from stepup_tests.engines import connection_of_its_own
from stepup_tests.metrics import metric
from stepup_tests.wire import refusal_of
from structlog.testing import capture_logs

from stepup.rpc.engine.core import CoreEngine

CALL = "/test.Service/Call"
STREAM = "/test.Service/Stream"
HOLD = "/test.Service/Hold"
LARGE = "/test.Service/Large"
HEALTH = "/test.Service/Health"
WATCH = "/test.Service/Watch"
IN_FLIGHT = 10
STREAMS = 20
OPTIONS = (("grpc.max_concurrent_streams", STREAMS),)
SOON_SECONDS = 0.3
"""Within which a message has to arrive here."""
WINDOW = 2**31 - 1


async def echo(payload, _invocation):
    return payload


async def echo_all(payloads, _invocation):
    async for payload in payloads:
        yield payload


async def hold(_payload, _invocation):
    await asyncio.Event().wait()


async def large(_payload, _invocation):
    return b"x" * 60_000


async def watch(payloads, _invocation):
    async for payload in payloads:
        yield payload
        await asyncio.Event().wait()


@pytest.fixture
def serve(serving):
    """Serve with room for ten calls, and be patient for a third of a second, unless told else."""

    def serve(**limits):
        return serving(
            max_in_flight=IN_FLIGHT,
            unary={CALL: echo, HOLD: hold, LARGE: large, HEALTH: echo},
            stream={STREAM: echo_all, WATCH: watch},
            exempt={HEALTH, WATCH},
            options=OPTIONS,
            **({"message_seconds": SOON_SECONDS} | limits),
        )

    return serve


def streams(number=STREAMS):
    return range(1, 2 * number, 2)


@asynccontextmanager
async def attacker(port, **settings):
    """A raw connection, and what has come on it."""
    connection = await http2.Connection.open(port.number, **settings)
    seen = http2.Seen(answers_pings=True)
    reading = asyncio.create_task(seen.collect(connection))
    try:
        yield connection, seen
    finally:
        reading.cancel()
        await asyncio.wait([reading])
        connection.abort()


async def eventually(holds):
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110  # nobody tells of it
            await asyncio.sleep(0.005)


async def is_served(port, path=CALL, payload=b"x"):
    async with connection_of_its_own(port.target) as channel:
        return await channel.unary_unary(path)(payload, timeout=10) == payload


def half_message():
    return http2.grpc_message(b"x" * 1000)[:500]


HALVES = {"headers": b"", "length": http2.grpc_message(b"x" * 9)[:5], "half": half_message()}


@pytest.mark.parametrize("half", HALVES.values(), ids=HALVES)
@pytest.mark.parametrize("path", [CALL, STREAM])
async def test_s26_a_half_open_call_holds_no_place(serve, path, half):
    """Twice as many as there are places."""
    async with serve(message_seconds=60) as port, attacker(port) as (connection, _):
        for each in streams():
            await connection.send(http2.call(each, path), http2.frame(http2.DATA, 0, each, half))
        for _ in range(3):
            assert await is_served(port)


@pytest.mark.parametrize("half", HALVES.values(), ids=HALVES)
@pytest.mark.parametrize("path", [CALL, STREAM])
async def test_s26_a_half_open_call_ends_after_the_time_for_its_message(serve, path, half):
    async with serve() as port, attacker(port) as (connection, seen):
        before = metric("stepup_overload_refusals_total", cause="message_late")
        rounds, number = 3, 7
        for first in range(0, rounds * number, number):  # the connection's streams are free again
            opened = [each + 2 * first for each in streams(number)]
            for each in opened:
                frame = http2.frame(http2.DATA, 0, each, half)
                await connection.send(http2.call(each, path), frame)
            await eventually(lambda: seen.ended.keys() >= set(opened))  # noqa: B023  # at once
        late = metric("stepup_overload_refusals_total", cause="message_late") - before
        assert late == rounds * number


async def test_s26_a_call_without_a_message_is_told_why_it_ended(serve):
    async with serve() as port:
        call = port.channel.stream_stream(CALL)()
        refused = await refusal_of(call.read())
        assert (refused.code, refused.reason) == (
            grpc.StatusCode.DEADLINE_EXCEEDED,
            "CLIENT_TOO_SLOW",
        )


async def test_s26_a_message_that_drips_ends_all_the_same(serve):
    """One byte each time, long after the deadline of the whole."""
    async with serve() as port, attacker(port) as (connection, seen):
        await connection.send(http2.call(1, CALL))
        for octet in http2.grpc_message(b"x" * 1000):
            if 1 in seen.ended:
                break
            await connection.send(http2.frame(http2.DATA, 0, 1, bytes([octet])))
            await asyncio.sleep(0.01)
        assert 1 in seen.ended


async def test_s26_headers_that_never_end_hold_no_place(serve):
    piece = http2.frame(http2.CONTINUATION, 0, 1, http2.block((b"x-more", b"x")))
    async with serve() as port, attacker(port) as (connection, _):
        await connection.send(http2.call(1, CALL, flags=0))
        for _ in range(50):
            await connection.send(piece)
            assert await is_served(port)


async def test_s26_the_next_message_of_a_stream_has_a_deadline_too(serve):
    async with serve() as port:
        call = port.channel.stream_stream(STREAM)()
        await call.write(b"one")
        assert await call.read() == b"one"
        assert (await refusal_of(call.read())).reason == "CLIENT_TOO_SLOW"


async def test_s26_more_half_open_calls_than_may_be_end_the_oldest(serve):
    limits = {"message_seconds": 60, "half_open": 8}
    async with serve(**limits) as port, attacker(port) as (connection, seen):
        with capture_logs() as lines:
            await connection.send(*(http2.call(each, CALL) for each in streams(9)))
            await eventually(lambda: len(seen.ended) == 4)
        assert set(seen.ended) == {1, 3, 5, 7}
        assert await is_served(port)
        [line] = [each for each in lines if each["event"] == "calls_refused_for_overload"]
        assert (line["cause"], line["latest_network"]) == ("half_open", "127.0.0.1")


async def test_s26_health_is_answered_while_all_places_are_taken(serve):
    async with serve() as port, attacker(port) as (connection, seen):
        await connection.send(*(http2.call(each, HOLD, message=b"") for each in streams()))
        await eventually(lambda: len(seen.ended) == STREAMS - IN_FLIGHT)
        refused = await refusal_of(port.unary(CALL))
        assert (refused.code, refused.reason) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "OVERLOADED",
        )
        assert await is_served(port, HEALTH)


async def test_s26_watchers_of_health_hold_no_place_and_are_bounded(serve):
    async with serve(exempt_in_flight=10) as port, attacker(port) as (connection, seen):
        await connection.send(*(http2.call(each, WATCH, message=b"") for each in streams(10)))
        assert await is_served(port)
        assert not seen.ended
        await connection.send(http2.call(101, WATCH, message=b""))
        await eventually(lambda: len(seen.ended) == 5)
        assert set(seen.ended) == {1, 3, 5, 7, 9}


@pytest.fixture
def on_core(make_engine):
    if make_engine is not CoreEngine:
        pytest.skip("grpc.aio does not tell who reads an answer")


@pytest.mark.usefixtures("on_core")
async def test_s26_answers_that_nobody_reads_hold_no_place_and_end(serve):
    unread = {"INITIAL_WINDOW_SIZE": 0}
    async with (
        serve(answer_seconds=SOON_SECONDS) as port,
        attacker(port, **unread) as (connection, seen),
    ):
        for each in streams():
            await connection.send(http2.call(each, LARGE, message=b""))
            assert await port.unary(CALL, b"x") == b"x"
        await eventually(lambda: len(seen.ended) == STREAMS)


@pytest.mark.usefixtures("on_core")
async def test_s26_a_stream_whose_answers_nobody_reads_ends(serve):
    unread = {"INITIAL_WINDOW_SIZE": 0}
    async with (
        serve(answer_seconds=SOON_SECONDS, message_seconds=60) as port,
        attacker(port, **unread) as (connection, seen),
    ):
        calls = (http2.call(each, STREAM, message=b"x") for each in streams(IN_FLIGHT))
        await connection.send(*calls)
        await eventually(lambda: seen.ended.keys() == set(streams(IN_FLIGHT)))
        await port.has_forgotten_all_calls()


@pytest.mark.parametrize("path", [CALL, STREAM, WATCH])
async def test_s26_an_engine_stops_while_calls_are_half_open(serve, path):
    async with serve() as port, attacker(port) as (connection, _):
        await connection.send(*(http2.call(each, path) for each in streams()))
        with suppress(ConnectionError):
            assert await is_served(port)
        async with asyncio.timeout(2):
            await port.engine.stop(0.1)
