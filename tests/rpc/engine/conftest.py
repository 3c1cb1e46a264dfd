"""Engines with methods that exist for these tests only."""

from contextlib import asynccontextmanager

import grpc
import pytest

from stepup.rpc.engine import Stream, Unary
from stepup.rpc.engine.aio import AioEngine
from stepup.rpc.engine.core import CoreEngine

OPTIONS = (
    ("grpc.max_receive_message_length", 64 * 1024),
    ("grpc.so_reuseport", 0),
)
MAX_IN_FLIGHT = 100
PATIENCE_SECONDS = 20


@pytest.fixture(params=[AioEngine, CoreEngine], ids=["aio", "core"])
def make_engine(request):
    return request.param


class Port:
    """An engine that listens, and a channel to it."""

    def __init__(self, engine, number):
        self.engine = engine
        self.number = number
        self.target = f"127.0.0.1:{number}"
        self.channel = grpc.aio.insecure_channel(self.target)

    def unary(self, path, payload=b"", timeout=PATIENCE_SECONDS, **options):
        return self.channel.unary_unary(path)(payload, timeout=timeout, **options)

    def stream(self, path, payloads=(b"",), timeout=PATIENCE_SECONDS, **options):
        return self.channel.stream_stream(path)(iter(payloads), timeout=timeout, **options)


@pytest.fixture
def serving(make_engine):
    """Serve functions for as long as a block lasts: coroutines are unary, generators stream."""

    @asynccontextmanager
    async def serving(*, max_in_flight=MAX_IN_FLIGHT, unary=None, stream=None):
        served = {path: Unary(answer) for path, answer in (unary or {}).items()}
        served |= {path: Stream(answers) for path, answers in (stream or {}).items()}
        engine = make_engine(served, OPTIONS, max_in_flight)
        port = Port(engine, engine.listen("127.0.0.1:0", None))
        await engine.start()
        try:
            yield port
        finally:
            await port.channel.close()
            await engine.stop(0)

    return serving
