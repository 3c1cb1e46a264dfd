"""Connections that have grown old, whose other end is gone, or that ask too often."""

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from stepup_tests.engine import http2
from stepup_tests.engines import make_engine
from stepup_tests.wire import pipeline_of

from stepup.rpc.server.connections import ConnectionLimits
from stepup.rpc.server.server import Server

__all__ = ["make_engine"]

SHORT = timedelta(seconds=0.2)
PATIENCE_SECONDS = 10


class Client:
    """A client that makes no call, and answers pings if it is alive."""

    def __init__(self, connection, *, alive):
        self._connection = connection
        self._pings = asyncio.Queue()
        self.is_sent_away = False
        self._listening = asyncio.create_task(self._listen(alive=alive))

    async def ping(self):
        await self._connection.send(http2.ping())

    async def has_a_ping(self):
        """One of the server's, or its answer to one of ours."""
        await asyncio.wait_for(self._pings.get(), PATIENCE_SECONDS)

    async def has_ended(self):
        await asyncio.wait_for(self._listening, PATIENCE_SECONDS)

    async def _listen(self, *, alive):
        async for kind, flags, _stream, payload in self._connection.frames():
            self.is_sent_away = self.is_sent_away or kind == http2.GOAWAY
            if kind == http2.PING:
                self._pings.put_nowait(payload)
                if alive and not flags & http2.ACK:
                    await self._connection.send(http2.frame(http2.PING, http2.ACK, payload=payload))


@pytest.fixture
def connected(worker, make_engine):
    """A client of a server with limits."""
    pipeline, handlers = pipeline_of(worker), worker.application.handlers

    @asynccontextmanager
    async def connect(*, alive=True, **limits):
        server = Server(pipeline, handlers, make_engine, ConnectionLimits(**limits))
        try:
            connection = await http2.Connection.open(await server.start("127.0.0.1", 0))
            yield Client(connection, alive=alive)
            connection.abort()
        finally:
            await server.stop(0)

    return connect


async def test_an_old_connection_is_ended(connected):
    async with connected(max_age=SHORT) as client:
        await client.has_ended()
        assert client.is_sent_away


async def test_who_does_not_answer_is_given_up_although_no_call_is_in_flight(connected):
    async with connected(alive=False, silence=SHORT, answer_within=SHORT) as client:
        await client.has_a_ping()
        await client.has_ended()


async def test_who_answers_is_asked_again(connected):
    async with connected(silence=SHORT, answer_within=SHORT) as client:
        for _ in range(3):
            await client.has_a_ping()


async def test_s18_who_asks_too_often_is_sent_away(connected):
    async with connected(pings_apart=timedelta(minutes=5)) as client:
        for _ in range(5):
            await client.ping()
        await client.has_ended()
        assert client.is_sent_away


async def test_who_asks_no_more_often_than_allowed_is_answered_without_a_call(connected):
    async with connected(pings_apart=timedelta(milliseconds=1)) as client:
        for _ in range(8):
            await client.ping()
            await client.has_a_ping()
            await asyncio.sleep(0.01)  # by gRPC's clock, which cannot be set
        assert not client.is_sent_away
