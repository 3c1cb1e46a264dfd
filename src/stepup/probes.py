"""Answers an orchestrator's probes over plain HTTP, for it seldom speaks gRPC with mutual TLS."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from http import HTTPStatus

_REQUEST_SECONDS = 5.0
_MAX_REQUEST_BYTES = 8 * 1024

IsServing = Callable[[], bool]


@asynccontextmanager
async def probes_answered(host: str, port: int, is_serving: IsServing) -> AsyncIterator[int]:
    """Answer probes for as long as the block lasts; yields the port.

    `/live` is 200 while the event loop turns, whatever becomes of the stores: a restart would not
    bring them back. `/ready` is 200 while decisions can be made, else 503. The loop that serves
    calls answers itself, so that no answer comes when it is stuck.

    Raises:
        OSError: the address cannot be listened on.
    """
    server = await asyncio.start_server(
        partial(_answer, is_serving), host, port, limit=_MAX_REQUEST_BYTES
    )
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


async def _answer(
    is_serving: IsServing, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    try:
        # Whoever does not send a request of sensible size in time, or is gone, gets no answer.
        with suppress(
            TimeoutError, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError
        ):
            async with asyncio.timeout(_REQUEST_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                status = _status(head.split(b" ", 2), is_serving)
                writer.write(
                    f"HTTP/1.1 {status.value} {status.phrase}\r\n"
                    "content-length: 0\r\nconnection: close\r\n\r\n".encode()
                )
                await writer.drain()
    finally:
        writer.close()


def _status(request: list[bytes], is_serving: IsServing) -> HTTPStatus:
    match request:
        case [b"GET", b"/live", _]:
            return HTTPStatus.OK
        case [b"GET", b"/ready", _]:
            return HTTPStatus.OK if is_serving() else HTTPStatus.SERVICE_UNAVAILABLE
    return HTTPStatus.NOT_FOUND
