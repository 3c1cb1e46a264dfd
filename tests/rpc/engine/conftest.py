"""Engines with methods that exist for these tests only."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import pytest
from stepup_tests.engine.options import CALLS_PER_CONNECTION, OPTIONS
from stepup_tests.engines import connection_of_its_own, make_engine

from stepup.rpc.engine import CallLimits, StreamMethod, UnaryMethod

__all__ = ["make_engine", "serving"]

MAX_IN_FLIGHT = 100
PATIENCE_SECONDS = 20
TOGETHER = "/test.Standard/Together"


class Port:
    """An engine that listens, and a channel to it."""

    def __init__(self, engine, number, max_in_flight):
        self.engine = engine
        self.number = number
        self.max_in_flight = max_in_flight
        self.target = f"127.0.0.1:{number}"
        self.channel = grpc.aio.insecure_channel(self.target)

    def unary(self, path, payload=b"", timeout=PATIENCE_SECONDS, **options):
        return self.channel.unary_unary(path)(payload, timeout=timeout, **options)

    def stream(self, path, payloads=(b"",), timeout=PATIENCE_SECONDS, **options):
        return self.channel.stream_stream(path)(iter(payloads), timeout=timeout, **options)

    async def has_forgotten_all_calls(self):
        """Wait until as many calls as may be are served at once: then no other is in flight."""
        async with asyncio.timeout(PATIENCE_SECONDS), AsyncExitStack() as stack:
            channels = [
                await stack.enter_async_context(connection_of_its_own(self.target))
                for _ in range(0, self.max_in_flight, CALLS_PER_CONNECTION)
            ]
            while not await self._are_served_at_once(channels):  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.3)  # else these calls, when given up, are in their own way

    async def _are_served_at_once(self, channels):
        calls = [
            asyncio.ensure_future(_answer(channels[number // CALLS_PER_CONNECTION]))
            for number in range(self.max_in_flight)
        ]
        await asyncio.wait(calls, return_when=asyncio.FIRST_EXCEPTION)
        if any(call.done() and call.exception() for call in calls):
            for call in calls:
                call.cancel()
            await asyncio.wait(calls)
            return False
        return True


async def _answer(channel):
    return await channel.unary_unary(TOGETHER)(b"", timeout=PATIENCE_SECONDS)


@pytest.fixture
def serving(make_engine):
    """Serve functions for as long as a block lasts: coroutines are unary, generators stream."""

    @asynccontextmanager
    async def serving(
        *,
        max_in_flight=MAX_IN_FLIGHT,
        options=(),
        unary=None,
        stream=None,
        exempt=(),
        waits=(),
        **limits,
    ):
        all_there = asyncio.Barrier(max_in_flight)

        async def together(payload, _invocation):
            await all_there.wait()
            return payload

        unary = {TOGETHER: together} | (unary or {})
        served = {path: UnaryMethod(answer, path in exempt) for path, answer in unary.items()}
        served |= {
            path: StreamMethod(each, path in exempt, path in waits)
            for path, each in (stream or {}).items()
        }
        limits = CallLimits(in_flight=max_in_flight, **limits)
        engine = make_engine(served, OPTIONS + options, limits)
        port = Port(engine, engine.listen("127.0.0.1:0", None), max_in_flight)
        await engine.start()
        try:
            yield port
        finally:
            await port.channel.close()
            await engine.stop(0)

    return serving
