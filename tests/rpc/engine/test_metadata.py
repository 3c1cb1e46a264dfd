"""S18: more metadata than is taken are refused, whatever a client acknowledges."""

import asyncio

import grpc
import pytest
from stepup_tests.engine import http2
from stepup_tests.wire import refusal_of

CALL = "/test.Service/Call"
STREAM = "/test.Service/Stream"
KIB = 1024


@pytest.fixture
def called():
    """How often a handler was called."""
    return []


@pytest.fixture
def serve(serving, called):
    async def echo(payload, _invocation):
        called.append(payload)
        return payload

    async def echo_all(payloads, _invocation):
        async for payload in payloads:
            called.append(payload)
            yield payload

    def serve(limit=16 * KIB):
        options = (("grpc.max_metadata_size", limit), ("grpc.absolute_max_metadata_size", limit))
        return serving(unary={CALL: echo}, stream={STREAM: echo_all}, options=options)

    return serve


async def sent(port, path, size, **options):
    """Make a call with so many bytes of metadata, and wait for its end."""
    connection = await http2.Connection.open(port.number, **options)
    values = [b"x" * min(KIB, size - at) for at in range(0, size, KIB)]
    metadata = [(b"x-%d" % number, value) for number, value in enumerate(values)]
    await connection.send(http2.large_call(1, path, b"hello", *metadata))
    async with asyncio.timeout(10):
        async for _, flags, stream, _ in connection.frames():
            if stream == 1 and flags & http2.END_STREAM:
                break
        else:
            raise AssertionError("the connection broke")
    connection.abort()


@pytest.mark.parametrize("path", [CALL, STREAM])
@pytest.mark.parametrize("size", [17 * KIB, 95 * KIB])
async def test_s18_metadata_over_16_kib_are_refused_without_an_acknowledgement(
    serve, called, path, size
):
    """Until a client acknowledges gRPC's limit, gRPC itself takes far more."""
    async with serve() as port:
        await sent(port, path, size, acks=False)
        assert not called


@pytest.mark.parametrize("path", [CALL, STREAM])
async def test_s18_the_refusal_says_what_is_too_large(serve, called, path):
    """Where gRPC lets the metadata through."""
    async with serve(limit=1024 * KIB) as port:
        metadata = [(f"x-{n}", "x" * KIB) for n in range(16)]
        call = port.channel.unary_stream(path)(b"", metadata=metadata, timeout=10)
        refusal = await refusal_of(anext(aiter(call)))
    assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refusal.reason == "METADATA_TOO_LARGE"
    assert not called


@pytest.mark.parametrize("path", [CALL, STREAM])
async def test_less_is_served(serve, called, path):
    async with serve() as port:
        await sent(port, path, 8 * KIB, acks=False)
        assert called == [b"hello"]
