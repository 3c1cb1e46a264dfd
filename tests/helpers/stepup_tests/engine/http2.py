"""HTTP/2 frames by hand, for what no gRPC library would send (RFC 9113, RFC 7541)."""

import asyncio
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    *(0, 1, 3, 4, 6, 7, 8, 9),
)
END_STREAM, ACK, END_HEADERS = 1, 1, 4
CANCEL = 8
FRAME_SIZE = 16_384
INITIAL_WINDOW_SIZE = 4


def frame(kind, flags=0, stream=0, payload=b""):
    """A frame: RFC 9113 §4.1."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(**values):
    """SETTINGS; values by the names of this module."""
    return frame(
        SETTINGS, payload=b"".join(struct.pack(">HI", globals()[k], v) for k, v in values.items())
    )


def ping(octets=b"\0" * 8):
    """PING, which whoever is alive answers."""
    return frame(PING, payload=octets)


def call(stream, path, *further, message=None, flags=END_HEADERS):
    """The HEADERS of a call of a method, and its message, if any."""
    headers = frame(HEADERS, flags, stream, block(*_pseudo_headers(path), *further))
    if message is None:
        return headers
    return headers + frame(DATA, END_STREAM, stream, grpc_message(message))


def large_call(stream, path, message, *further):
    """A call whose headers need several frames: RFC 9113 §6.10."""
    headers = block(*_pseudo_headers(path), *further)
    first, *rest = (headers[at : at + FRAME_SIZE] for at in range(0, len(headers), FRAME_SIZE))
    frames = [frame(HEADERS, 0, stream, first)]
    frames += [frame(CONTINUATION, 0, stream, each) for each in rest]
    frames.append(frame(CONTINUATION, END_HEADERS, stream))
    return b"".join(frames) + frame(DATA, END_STREAM, stream, grpc_message(message))


def reset(stream):
    """RST_STREAM."""
    return frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL))


def grpc_message(octets):
    """A message that is not compressed, with its length before it."""
    return struct.pack(">BI", 0, len(octets)) + octets


def block(*headers):
    """Headers as literals that nobody indexes: RFC 7541 §6.2.2."""
    return b"".join(b"\0" + _string(name) + _string(value) for name, value in headers)


def _pseudo_headers(path):
    return (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path.encode()),
        (b":authority", b"localhost"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    )


def _string(octets):
    return _integer(len(octets)) + octets


def _integer(value):
    """RFC 7541 §5.1, with a prefix of seven bits."""
    if value < 127:
        return bytes([value])
    octets, value = bytearray([127]), value - 127
    while value >= 128:
        octets.append(value % 128 + 128)
        value //= 128
    return bytes([*octets, value])


class Connection:
    """A connection that has said hello, and does nothing of its own accord."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port, *, acks=True, **values):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        connection = cls(reader, writer)
        await connection.send(
            PREFACE + settings(**values) + (frame(SETTINGS, ACK) if acks else b"")
        )
        return connection

    async def send(self, *frames):
        self.writer.write(b"".join(frames))
        await self.writer.drain()

    async def frames(self):
        """The frames that come, as (kind, flags, stream, payload), until the connection ends."""
        while True:
            try:
                head = await self.reader.readexactly(9)
                size = int.from_bytes(head[:3], "big")
                kind, flags, stream = struct.unpack(">BBI", head[3:])
                yield kind, flags, stream, await self.reader.readexactly(size)
            except (asyncio.IncompleteReadError, ConnectionError):
                return

    def abort(self):
        """Break it off without a word."""
        self.writer.transport.abort()


class Seen:
    """What has come on a connection: how each stream ended, and the kinds of all frames."""

    def __init__(self, *, answers_pings=False):
        self.ended = {}
        self.kinds = set()
        self._answers_pings = answers_pings

    async def collect(self, connection):
        async for kind, flags, stream, payload in connection.frames():
            self.kinds.add(kind)
            if kind == PING and not flags & ACK and self._answers_pings:
                await connection.send(frame(PING, ACK, payload=payload))
            if kind == RST_STREAM or (kind == HEADERS and flags & END_STREAM):
                self.ended.setdefault(stream, kind)
