"""Thousands of calls, good and bad ones, leave no object; `make soak` makes a million."""

import asyncio
import gc
from collections import Counter
from contextlib import suppress

import pytest
from stepup_tests.engine import http2

from stepup.domain.errors import InvalidFieldError

CALL = "/test.Service/Call"
REFUSED = "/test.Service/Refused"
CRASH = "/test.Service/Crash"
STREAM = "/test.Service/Stream"
HOLD = "/test.Service/Hold"
HOLD_STREAM = "/test.Service/HoldStream"
UNKNOWN = "/test.Service/NoSuchMethod"
LATE = (b"grpc-timeout", b"5m")

ROUNDS = 10
SPARE_OBJECTS = 300
"""Of one type, after 1,000 calls of each kind: the last ones may be held for a while."""


async def echo(payload, _invocation):
    return payload


async def echo_all(payloads, _invocation):
    async for payload in payloads:
        yield payload


async def refused(_payload, _invocation):
    raise InvalidFieldError("page", "is no page")


async def crash(_payload, _invocation):
    raise RuntimeError


async def hold(_payload, _invocation):
    await asyncio.Event().wait()


async def hold_stream(payloads, _invocation):
    async for payload in payloads:
        yield payload
        await asyncio.Event().wait()


@pytest.fixture
async def port(serving):
    unary = {CALL: echo, REFUSED: refused, CRASH: crash, HOLD: hold}
    stream = {STREAM: echo_all, HOLD_STREAM: hold_stream}
    # Each kind of call may take all streams of a connection.
    options = (("grpc.max_concurrent_streams", 100),)
    async with serving(unary=unary, stream=stream, options=options, max_in_flight=200) as port:
        yield port


async def calls_of_every_kind(port):
    """1,000 calls, 100 of each kind, each kind on a connection of its own."""
    for path in (CALL, CALL, STREAM, REFUSED, UNKNOWN):
        await _until_ended(port, path, message=b"x")
    await _until_ended(port, HOLD, LATE, message=b"x")
    await _until_ended(port, HOLD_STREAM, LATE, message=b"x")
    for path, message in ((CALL, b"x"), (STREAM, None)):
        connection = await http2.Connection.open(port.number)
        await connection.send(
            *(
                octets
                for each in _streams()
                for octets in (http2.call(each, path, message=message), http2.reset(each))
            )
        )
        connection.abort()
    connection = await http2.Connection.open(port.number)
    await connection.send(*(http2.call(each, HOLD, message=b"x") for each in _streams()))
    connection.abort()


async def _until_ended(port, path, *headers, message):
    connection = await http2.Connection.open(port.number)
    seen = http2.Seen()
    reading = asyncio.create_task(seen.collect(connection))
    await connection.send(
        *(http2.call(each, path, *headers, message=message) for each in _streams())
    )
    async with asyncio.timeout(20):
        while seen.ended.keys() != set(_streams()):  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.001)
    connection.abort()
    with suppress(asyncio.CancelledError):
        await reading


def _streams():
    return range(1, 200, 2)


def _objects():
    """How many there are of each type."""
    gc.collect()
    return Counter(type(each).__qualname__ for each in gc.get_objects())


def _more_than(before):
    left = _objects() - before
    return {name: number for name, number in left.items() if number > SPARE_OBJECTS}


async def test_calls_of_every_kind_leave_no_object(port):
    await calls_of_every_kind(port)
    await port.has_forgotten_all_calls()
    before = _objects()
    for _ in range(ROUNDS):
        await calls_of_every_kind(port)
    await port.has_forgotten_all_calls()
    # What an event loop has to finalize takes it a few turns.
    with suppress(TimeoutError):
        async with asyncio.timeout(5):
            while _more_than(before):  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.1)
    assert _more_than(before) == {}
