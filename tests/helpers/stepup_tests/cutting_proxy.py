"""A TCP proxy in front of a server that cuts a connection at its first answer."""

import asyncio
from contextlib import asynccontextmanager

_HEAD = 9  # octets before the payload of a frame (RFC 9113 §4.1)
_HEADERS = 1


class CuttingProxy:
    """Passes frames on, but for the next `cuts` answers: it closes their connections instead.

    The server has answered then, and the client never learns what.
    """

    def __init__(self, target):
        self._host, _, self._port = target.rpartition(":")
        self.cuts = 0
        self.has_cut = 0

    async def _serve(self, from_client, to_client):
        from_server, to_server = await asyncio.open_connection(self._host, self._port)
        requests = asyncio.create_task(_pass_on(from_client, to_server))
        try:
            while frame := await _frame(from_server):
                if frame[3] == _HEADERS and self.cuts:
                    self.cuts -= 1
                    self.has_cut += 1
                    break
                to_client.write(frame)
        finally:
            requests.cancel()
            for writer in (to_client, to_server):
                writer.transport.abort()


async def _pass_on(reader, writer):
    while octets := await reader.read(65536):
        writer.write(octets)


async def _frame(reader):
    """The next frame that a server sends; nothing at the end."""
    try:
        head = await reader.readexactly(_HEAD)
        return head + await reader.readexactly(int.from_bytes(head[:3]))
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


@asynccontextmanager
async def cutting_proxy(target):
    """Run a proxy in front of a server for as long as the block lasts; yields it and its port."""
    proxy = CuttingProxy(target)
    listener = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)  # noqa: SLF001  # its own
    async with listener:
        yield proxy, listener.sockets[0].getsockname()[1]
