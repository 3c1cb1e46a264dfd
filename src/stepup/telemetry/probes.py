"""Answers probes over plain HTTP, because orchestrators seldom speak gRPC with mutual TLS."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs

from stepup.system.open_connections import OpenConnections

MAX_CONNECTIONS: Final = 64
"""The largest number of connections at a time."""
_REQUEST_SECONDS = 5.0
_MAX_REQUEST_BYTES = 8 * 1024
_SERVER = ""
"""The health name of the whole server."""

Serving = Callable[[], Collection[str]]
"""The health names that serve now."""


@asynccontextmanager
async def probes_answered(
    host: str, port: int, serving: Serving, names: Collection[str]
) -> AsyncIterator[int]:
    """Answer probes until the block ends; yield the port.

    `/live` is 200 while the event loop runs, also without the stores: a restart would not bring
    them back. `/ready` is 200 while the server can decide, else 503; `/ready?service=NAME` is
    the same for one health name, and 404 for an unknown name. It answers GET and HEAD, and ignores
    other parameters. The event loop of the calls also answers probes, so a blocked loop does not
    answer.

    Beyond MAX_CONNECTIONS it closes the oldest connection of the busiest host.

    Args:
        host: an address of this machine.
        port: 0 means any free port.
        serving: is called for each probe of `/ready`.
        names: the health names; the empty name is the whole server.

    Raises:
        OSError: the server cannot listen on the address.
    """
    probes = _Probes(serving, names)
    server = await asyncio.start_server(probes.answer, host, port, limit=_MAX_REQUEST_BYTES)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


class _Probes:
    def __init__(self, serving: Serving, names: Collection[str]) -> None:
        self._serving = serving
        self._names = names
        self._connections: OpenConnections[asyncio.StreamWriter] = OpenConnections(MAX_CONNECTIONS)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection, once."""
        host = (writer.get_extra_info("peername") or ("",))[0]
        for closing in self._connections.add(writer, host, asyncio.get_running_loop().time()):
            closing.transport.abort()
        try:
            # A client that is gone, too slow, or sends too much gets no answer.
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                async with asyncio.timeout(_REQUEST_SECONDS):
                    head = await reader.readuntil(b"\r\n\r\n")
                    status = self._status(head.split(b" ", 2))
                    writer.write(
                        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
                        "content-length: 0\r\nconnection: close\r\n\r\n".encode()
                    )
                    await writer.drain()
        finally:
            self._connections.remove(writer)
            writer.close()

    def _status(self, request: list[bytes]) -> HTTPStatus:
        match request:
            case [b"GET" | b"HEAD", target, _]:
                path, _, query = target.partition(b"?")
                if path == b"/live":
                    return HTTPStatus.OK
                if path == b"/ready":
                    return self._readiness(query)
        return HTTPStatus.NOT_FOUND

    def _readiness(self, query: bytes) -> HTTPStatus:
        fields = parse_qs(query.decode("latin-1"), keep_blank_values=True)
        asked = fields.get("service", [_SERVER])
        if not all(name in self._names for name in asked):
            return HTTPStatus.NOT_FOUND
        serving = self._serving()
        if all(name in serving for name in asked):
            return HTTPStatus.OK
        return HTTPStatus.SERVICE_UNAVAILABLE
