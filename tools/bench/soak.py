"""A million calls, good and bad ones: what does a server keep of them?

Each round has calls that are answered, that are refused, that are given up in every way, and
connections that are dropped. Afterwards the server must have what it had: memory, threads, open
files, and every place for a call in flight.
"""

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from stepup_tests import requests
from stepup_tests.engine import http2
from stepup_tests.people import person
from stepup_tests.wire import on_wire

from stepup.rpc.engine import CallLimits
from stepup.v1 import step_up_service_pb2 as step_up
from tools.bench.answers import FRAME
from tools.bench.h2load import Target, at_full_speed, run
from tools.bench.servers import memory, refusals, serving

CHECK = "/stepup.v1.StepUpService/CheckStepUp"
UNKNOWN = "/stepup.v1.StepUpService/NoSuchMethod"
METHODS = tuple(requests.METHODS)
WATCH = "/grpc.health.v1.Health/Watch"  # a stream that does not end by itself

PER_ROUND = 10_000
GOOD, UNKNOWNS, MALFORMED = 6_000, 1_000, 1_000
RESET, HALF, LATE, CANCELLED, DROPPED = 1_000, 400, 200, 200, 200
GIVING_BACK = ("env", "MALLOC_ARENA_MAX=1", "MALLOC_TRIM_THRESHOLD_=131072")
"""Makes the allocator return free memory, so that the measured memory is in use."""
WARM = 20
"""Rounds until caches, threads and arenas no longer grow."""
MAX_GROWTH_BYTES = 16 * 2**20
"""21 bytes for each call of the 800,000 after that: less than any object that could be left of it.
What it allows for are holes in the heap: core has grown by less than 5 MiB."""
MAX_GROWTH_BYTES_AIO = 64 * 2**20
"""grpc.aio has more of them: each burst of calls that are given up makes its heap a little larger.
That it keeps no object is what tests/rpc/engine/test_leaks.py shows."""
_PER_CONNECTION = 100
_PATIENCE_SECONDS = 30


class LeakError(Exception):
    """The server has kept something; the message says what."""


@dataclass(frozen=True)
class Footprint:
    """What a server process has."""

    resident_bytes: int
    threads: int
    """But for those of gRPC's own pool, which come and go with the load."""
    connections: int
    databases: int
    """Open database files; a connection of the SQL pool, when it is first needed, has a thread."""
    files: int
    """All others."""

    @classmethod
    def of(cls, pid):
        """As it is now."""
        process = Path(f"/proc/{pid}")
        names = [_read(task / "comm") for task in (process / "task").iterdir()]
        threads = sum(name != "event_engine\n" for name in names)
        files = [_target(descriptor) for descriptor in (process / "fd").iterdir()]
        connections = sum(each.startswith("socket:") for each in files)
        databases = sum(each.endswith(".db") for each in files)
        logs = sum(each.endswith(("-wal", "-shm")) for each in files)
        others = len(files) - connections - databases - logs
        return cls(memory(pid).resident_bytes, threads, connections, databases, others)

    def grown_since(self, earlier):
        """What there is more of than there was, but for memory."""
        threads = self.threads - (self.databases - earlier.databases)
        grown = {
            "threads": threads - earlier.threads,
            "connections": self.connections - earlier.connections,
            "files": self.files - earlier.files,
        }
        return {name: number for name, number in grown.items() if number > 0}

    def __str__(self):
        return (
            f"{self.resident_bytes / 2**20:.1f} MiB, {self.connections} sockets,"
            f" {self.databases} database files, {self.files} others, {self.threads} threads"
        )


def _target(descriptor):
    try:
        return str(descriptor.readlink())
    except FileNotFoundError:  # it was closed meanwhile
        return ""


def _read(file):
    try:
        return file.read_text()
    except OSError:  # the thread has ended meanwhile
        return ""


def soak(command, directory, rounds, max_growth_bytes, say):
    """Call a server in rounds of 10,000, and look at what it keeps.

    Args:
        command: starts it, for anybody.
        directory: for its log and the requests.
        rounds: how many; more than `WARM`.
        max_growth_bytes: of its memory, after that.
        say: gets a line now and then.

    Raises:
        LeakError: it has kept something, or calls did not end as they should.
    """
    with serving((*GIVING_BACK, *command), directory) as server:
        calls = Calls(server.address, directory)
        asyncio.run(calls.prove())
        time.sleep(1)  # until it has seen that this client is gone
        began = Footprint.of(server.pid)
        say(f"at first: {began}")
        warm = began
        for number in range(1, rounds + 1):
            calls.round()
            if number == WARM:
                warm = _settled(server.pid, began)
            if number % 10 == 0:
                say(f"{number * PER_ROUND:,} calls: {Footprint.of(server.pid)}")
        ended = _settled(server.pid, began)
        say(f"in the end: {ended}")
        asyncio.run(calls.demand_every_place())
    _demand(not ended.grown_since(began), f"there are more {ended.grown_since(began)}")
    growth = ended.resident_bytes - warm.resident_bytes
    say(f"growth after {WARM * PER_ROUND:,} calls: {growth / 2**20:.1f} MiB")
    _demand(growth <= max_growth_bytes, f"memory has grown by {growth} bytes")
    wrong = refusals(directory).get(("INVALID_ARGUMENT", "INVALID_FIELD"), 0)
    _demand(wrong >= rounds * MALFORMED, f"only {wrong} malformed requests were refused")


def _settled(pid, began):
    """What it has once it has closed what was dropped, or has had the time to."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while (now := Footprint.of(pid)).grown_since(began) and time.monotonic() < deadline:
        time.sleep(0.1)
    return now


def _demand(holds, message):
    if not holds:
        raise LeakError(message)


class Calls:
    """Calls of a server, of every kind."""

    def __init__(self, address, directory):
        self._address = address
        self._port = int(address.rpartition(":")[2])
        request = step_up.CheckStepUpRequest(
            actor=on_wire(person()), operation="response.run_osquery"
        )
        self._good = request.SerializeToString()
        self._malformed = b"\xff" * 32
        self._resets = 0
        self._bulk = (
            (self._target(directory, CHECK, "good", self._good), GOOD),
            (self._target(directory, UNKNOWN, "unknown", self._good), UNKNOWNS),
            (self._target(directory, CHECK, "malformed", self._malformed), MALFORMED),
        )

    def _target(self, directory, path, name, message):
        payload = directory / name
        payload.write_bytes(FRAME.pack(0, len(message)) + message)
        return Target(f"http://{self._address}{path}", str(payload))

    def round(self):
        """10,000 calls, the ones after the others."""
        for target, calls in self._bulk:
            load = run(at_full_speed(target, calls))
            _demand(load.succeeded == calls, f"{calls - load.succeeded} calls were not answered")
        asyncio.run(self._hostile())

    async def _hostile(self):
        async with asyncio.timeout(_PATIENCE_SECONDS):
            for number in range(RESET // _PER_CONNECTION):
                await self.reset(METHODS[(self._resets + number) % len(METHODS)])
                await self._is_caught_up()
            self._resets += RESET // _PER_CONNECTION
            for _ in range(0, HALF, _PER_CONNECTION):
                await self._reset(CHECK, message=None)
            await self._is_caught_up()
            await self._late()
            await self._cancelled()
            await self._dropped()

    async def prove(self):
        """Demand of each kind once that it ends as it should."""
        async with grpc.aio.insecure_channel(self._address) as channel:
            for path, message, code in (
                (CHECK, self._good, grpc.StatusCode.OK),
                (UNKNOWN, self._good, grpc.StatusCode.UNIMPLEMENTED),
                (CHECK, self._malformed, grpc.StatusCode.INVALID_ARGUMENT),
            ):
                ended = await channel.unary_unary(path)(message).code()
                _demand(ended is code, f"{path} ends with {ended}")

    async def demand_every_place(self):
        """Demand that as many calls as there are places are answered when they come at once."""
        places = CallLimits().in_flight
        async with AsyncExitStack() as stack, asyncio.timeout(_PATIENCE_SECONDS):
            connections = [
                await stack.enter_async_context(self._connection())
                for _ in range(0, places, _PER_CONNECTION)
            ]
            for connection in connections:
                await connection.send(
                    *(http2.call(each, CHECK, message=self._good) for each in _streams())
                )
            for connection in connections:
                answered = await _answered(connection, _PER_CONNECTION)
                _demand(answered == _PER_CONNECTION, "places for calls are lost")

    async def reset(self, method):
        """Call one of `METHODS` 100 times with a good message; reset each call at once."""
        message = requests.valid_request(method.rpartition("/")[2])
        await self._reset(f"/{method}", message.SerializeToString())

    async def _reset(self, path, message):
        async with self._connection() as connection:
            for each in _streams():
                await connection.send(http2.call(each, path, message=message), http2.reset(each))
            await _ended_by_now(connection)

    async def _is_caught_up(self):
        """Wait until all before are through: of more than 1,000 waiting calls gRPC cancels some."""
        async with grpc.aio.insecure_channel(self._address) as channel:
            while await channel.unary_unary(CHECK)(self._good).code() is not grpc.StatusCode.OK:
                pass

    async def _late(self):
        for _ in range(0, LATE, _PER_CONNECTION):
            async with self._connection() as connection:
                late = (b"grpc-timeout", b"20m")
                await connection.send(
                    *(http2.call(each, WATCH, late, message=b"") for each in _streams())
                )
                await _ended(connection, _PER_CONNECTION)

    async def _cancelled(self):
        async with grpc.aio.insecure_channel(self._address) as channel:
            for _ in range(0, CANCELLED, _PER_CONNECTION):
                calls = [channel.unary_stream(WATCH)(b"") for _ in range(_PER_CONNECTION)]
                await asyncio.gather(*(call.read() for call in calls))
                for call in calls:
                    call.cancel()

    async def _dropped(self):
        for first in range(0, DROPPED, 10):
            async with self._connection() as connection:
                path = (CHECK, WATCH)[first // 10 % 2]
                message = (self._good, b"")[first // 10 % 2]
                await connection.send(
                    *(http2.call(each, path, message=message) for each in range(1, 20, 2))
                )
                if first % 40:
                    await _ended_by_now(connection)

    @asynccontextmanager
    async def _connection(self):
        connection = await http2.Connection.open(self._port)
        try:
            yield connection
        finally:
            connection.abort()


def _streams():
    return range(1, 2 * _PER_CONNECTION, 2)


async def _ended_by_now(connection):
    """How many calls have ended when the server has read all that was sent."""
    ended = 0
    await connection.send(http2.ping(b"all read"))
    async for kind, flags, _, payload in connection.frames():
        if kind == http2.PING and flags & http2.ACK and payload == b"all read":
            return ended
        ended += _is_end(kind, flags)
    raise LeakError("the server has closed a connection")


async def _ended(connection, calls):
    """Wait until so many calls have ended."""
    async for kind, flags, _, _ in connection.frames():
        calls -= _is_end(kind, flags)
        if not calls:
            return
    raise LeakError("the server has closed a connection")


async def _answered(connection, calls):
    """How many calls have a message as their answer, when so many have ended."""
    answered = 0
    async for kind, flags, _, _ in connection.frames():
        answered += kind == http2.DATA
        calls -= _is_end(kind, flags)
        if not calls:
            return answered
    raise LeakError("the server has closed a connection")


def _is_end(kind, flags):
    return kind == http2.RST_STREAM or (kind == http2.HEADERS and bool(flags & http2.END_STREAM))
