"""A load of many different calls: a small HTTP/2 client, which checks each answer as it comes.

h2load sends one request again and again, and so meets one tenant in every cache. This client frames
each message that it is given (RFC 9113), with headers that take a byte each once the server knows
them (RFC 7541): it is several times as fast as grpcio's client, and no load on the server.
"""

import selectors
import socket
import struct
import time
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle, islice

from tools.bench.answers import FRAME, WrongAnswersError

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_ACK = _END_STREAM = 1
_END_HEADERS = 4
_INITIAL_WINDOW_SIZE = 4
_LARGEST_WINDOW, _FIRST_WINDOW = 2**31 - 1, 2**16 - 1
_HEADER_BYTES = 9
_PATIENCE_SECONDS = 10.0


@dataclass(frozen=True)
class Call:
    """What is called, by whom."""

    address: str
    method: str
    """`/package.Service/Method`."""
    tokens: tuple[str, ...]
    """The bearer tokens, of the connections in turn."""
    right_answer: bytes
    """The first bytes of every right answer."""


@dataclass(frozen=True)
class Flooded:
    """The result of a load in which every answer was right."""

    rps: float
    latencies_ms: list[float]


def flood(call, messages, connections=8, in_flight=64):
    """Call with every message, so many at a time.

    Raises:
        WrongAnswersError: an answer begins with something else, or is an error.
        TimeoutError: nothing was answered for ten seconds.
    """
    remaining = iter(messages)
    waiting = 0
    latencies: list[float] = []
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        opened = [_Connection(call, token) for token in islice(cycle(call.tokens), connections)]
        for connection in opened:
            stack.enter_context(connection.socket)
            selector.register(connection.socket, selectors.EVENT_READ, connection)
        began = time.perf_counter()
        for connection in opened:
            waiting += connection.ask(remaining, in_flight // connections)
        while waiting:
            ready = selector.select(_PATIENCE_SECONDS)
            if not ready:
                raise TimeoutError(f"{waiting} calls have no answer")
            for key, _ in ready:
                done = key.data.answers()
                latencies += done
                waiting += key.data.ask(remaining, len(done)) - len(done)
        elapsed = time.perf_counter() - began
    return Flooded(len(latencies) / elapsed, [1000 * seconds for seconds in latencies])


class _Connection:
    """One connection, and the streams on it."""

    def __init__(self, call, token) -> None:
        host, _, port = call.address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._call = call
        self._headers, self._later_headers = _header_blocks(call, token)
        self._stream = 1
        self._received = b""
        self._asked_at: dict[int, float] = {}
        self._right: set[int] = set()
        settings = struct.pack(">HI", _INITIAL_WINDOW_SIZE, _LARGEST_WINDOW)
        window = struct.pack(">I", _LARGEST_WINDOW - _FIRST_WINDOW)
        self.socket.sendall(
            _PREFACE + _frame(_SETTINGS, 0, 0, settings) + _frame(_WINDOW_UPDATE, 0, 0, window)
        )

    def ask(self, messages, calls):
        """Begin so many calls, or fewer at the end of the messages; returns how many."""
        frames = []
        now = time.perf_counter()
        for message in islice(messages, calls):
            frames.append(_frame(_HEADERS, _END_HEADERS, self._stream, self._headers))
            data = FRAME.pack(0, len(message)) + message
            frames.append(_frame(_DATA, _END_STREAM, self._stream, data))
            self._headers = self._later_headers
            self._asked_at[self._stream] = now
            self._stream += 2
        if frames:
            self.socket.sendall(b"".join(frames))
        return len(frames) // 2

    def answers(self):
        """Take in what has arrived; returns how many seconds each call took that it ended."""
        self._received += self.socket.recv(1 << 18)
        now = time.perf_counter()
        received, position, ended = self._received, 0, []
        while len(received) >= position + _HEADER_BYTES:
            length = int.from_bytes(received[position : position + 3], "big")
            start, end = position + _HEADER_BYTES, position + _HEADER_BYTES + length
            if len(received) < end:
                break
            kind, flags = received[position + 3], received[position + 4]
            stream = int.from_bytes(received[position + 5 : start], "big")
            if self._take(kind, flags, stream, received[start:end]):
                ended.append(now - self._asked_at.pop(stream))
            position = end
        self._received = received[position:]
        return ended

    def _take(self, kind, flags, stream, payload):
        """Take one frame; returns whether it ends a call."""
        if kind == _DATA:
            if not payload.startswith(self._call.right_answer, FRAME.size):
                raise WrongAnswersError(f"an answer is {payload[FRAME.size :].hex()}")
            self._right.add(stream)
        elif kind == _HEADERS and flags & _END_STREAM:
            if stream not in self._right:
                raise WrongAnswersError(f"a call ended without an answer: {payload!r}")
            self._right.remove(stream)
            return True
        elif kind in {_RST_STREAM, _GOAWAY}:
            raise WrongAnswersError(f"the server ends stream {stream}, or all: {payload!r}")
        elif kind in {_SETTINGS, _PING} and not flags & _ACK:
            reply = payload if kind == _PING else b""
            self.socket.sendall(_frame(kind, _ACK, 0, reply))
        return False


def _frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


def _header_blocks(call, token):
    """The headers of the first call on a connection, and those of all later ones."""
    static = bytes((0x83, 0x86))  # :method POST, :scheme http
    fields = (
        (4, b"", call.method),  # :path
        (1, b"", call.address),  # :authority
        (31, b"", "application/grpc"),  # content-type
        (0, b"te", "trailers"),
        (23, b"", f"Bearer {token}"),  # authorization
    )
    first = [static]
    for name_index, name, value in fields:
        first.append(bytes((0x40 | name_index,)))  # to be kept in the dynamic table
        if name:
            first.append(_string(name))
        first.append(_string(value.encode()))
    # The table begins at 62 with what was added last.
    kept = bytes(0x80 | (62 + place) for place in reversed(range(len(fields))))
    return b"".join(first), static + kept


def _string(octets):
    """A string without Huffman coding, its length before it (RFC 7541 §5.1, §5.2)."""
    longest = 127
    if len(octets) < longest:
        return bytes((len(octets),)) + octets
    rest, length = len(octets) - longest, [longest]
    while rest >= 128:
        length.append(rest % 128 + 128)
        rest //= 128
    return bytes((*length, rest)) + octets
