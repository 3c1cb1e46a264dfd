"""What no well-behaved client does. After it a good one is served at once, and nothing is kept."""

import asyncio
import gc
import signal
import sys
import time
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from stepup_tests.engine import http2
from stepup_tests.engine.options import CALLS_PER_CONNECTION
from stepup_tests.engines import connection_of_its_own
from structlog.testing import capture_logs

CALL = "/test.Service/Call"
STREAM = "/test.Service/Stream"
HOLD = "/test.Service/Hold"
HOLD_STREAM = "/test.Service/HoldStream"
LARGE = "/test.Service/Large"
UNKNOWN = "/test.Service/NoSuchMethod"

STREAMS_PER_CONNECTION = CALLS_PER_CONNECTION
AT_ONCE_SECONDS = 2.0  # of a machine that is busy with other tests
OPTIONS = (
    ("grpc.max_concurrent_streams", STREAMS_PER_CONNECTION),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.absolute_max_metadata_size", 16 * 1024),
)


@pytest.fixture
def held():
    """Counts the calls that are held up."""
    return asyncio.Semaphore(0)


@pytest.fixture
def no_collector():
    """Whatever is given back must be so at once, and not when cycles are looked for."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
async def port(port_that_stops):
    """A server; when the test ends, it must have forgotten what the test did to it."""
    port = port_that_stops
    await port.unary(CALL)
    tasks = len(asyncio.all_tasks())
    yield port
    await a_good_client_is_served(port)
    await port.has_forgotten_all_calls()
    await eventually(lambda: len(asyncio.all_tasks()) <= tasks)


@pytest.fixture
async def port_that_stops(serving, held):
    """A server that the test may stop."""

    async def echo(payload, _invocation):
        return payload

    async def echo_all(payloads, _invocation):
        async for payload in payloads:
            yield payload

    async def hold(_payload, _invocation):
        held.release()
        await asyncio.Event().wait()

    async def hold_stream(payloads, invocation):
        async for payload in payloads:
            yield payload
            await hold(payload, invocation)

    async def large(_payload, _invocation):
        return b"x" * 60_000

    async with serving(
        unary={CALL: echo, HOLD: hold, LARGE: large},
        stream={STREAM: echo_all, HOLD_STREAM: hold_stream},
        options=OPTIONS,
    ) as port:
        yield port


async def a_good_client_is_served(port):
    began = time.monotonic()
    async with connection_of_its_own(port.target) as channel:
        assert await channel.unary_unary(CALL)(b"x", timeout=10) == b"x"
    assert time.monotonic() - began < AT_ONCE_SECONDS


async def eventually(holds):
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110  # nobody tells of it
            await asyncio.sleep(0.005)


@asynccontextmanager
async def connection(port, **settings):
    """A connection of frames, which is read from only if the test does."""
    opened = await http2.Connection.open(port.number, **settings)
    try:
        yield opened
    finally:
        opened.abort()


@asynccontextmanager
async def read(connection, seen=None):
    """What has come by now, while the block lasts."""
    seen = seen or http2.Seen()
    reading = asyncio.create_task(seen.collect(connection))
    try:
        yield seen
    finally:
        reading.cancel()
        await asyncio.wait([reading])


@pytest.mark.parametrize("message", [None, b"x"], ids=["headers", "message"])
@pytest.mark.parametrize("path", [CALL, STREAM, HOLD, HOLD_STREAM, LARGE, UNKNOWN])
async def test_calls_that_are_reset_at_once_hold_no_place(port, path, message):
    async with connection(port) as attacker, read(attacker):
        for first in range(0, 2_000, 50):
            for each in range(2 * first + 1, 2 * (first + 50), 2):
                await attacker.send(http2.call(each, path, message=message), http2.reset(each))
        await a_good_client_is_served(port)
        await port.has_forgotten_all_calls()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("path", [HOLD, HOLD_STREAM])
async def test_calls_that_are_given_up_hold_no_stream_of_their_connection(port, held, path):
    async with connection(port) as attacker, read(attacker) as seen:
        for first in (1, 101, 201):
            streams = range(first, first + 2 * STREAMS_PER_CONNECTION, 2)
            await attacker.send(*(http2.call(each, path, message=b"") for each in streams))
            async with asyncio.timeout(10):
                for _ in streams:
                    await held.acquire()
            await attacker.send(*map(http2.reset, streams))
            await port.has_forgotten_all_calls()
        assert not seen.ended


async def test_connections_that_come_and_go_hold_no_place(port):
    for _ in range(200):
        async with connection(port) as attacker:
            await attacker.send(*(http2.call(each, HOLD_STREAM) for each in range(1, 20, 2)))
    await port.has_forgotten_all_calls()


@pytest.mark.parametrize("path", [CALL, HOLD, LARGE])
async def test_calls_that_never_send_their_message_keep_nobody_else_waiting(port, path):
    async with connection(port) as attacker:
        streams = range(1, 2 * STREAMS_PER_CONNECTION, 2)
        await attacker.send(*(http2.call(each, path) for each in streams))
        await a_good_client_is_served(port)


async def test_a_call_that_never_sends_its_message_ends_at_its_deadline(port):
    async with connection(port) as attacker, read(attacker) as seen:
        await attacker.send(http2.call(1, CALL, (b"grpc-timeout", b"200m")))
        await eventually(lambda: 1 in seen.ended)
        await port.has_forgotten_all_calls()


async def test_a_call_that_sends_half_a_message_ends_with_its_connection(port):
    half = http2.frame(http2.DATA, 0, 1, http2.grpc_message(b"x" * 1000)[:500])
    async with connection(port) as attacker:
        await attacker.send(http2.call(1, CALL), half)
        await a_good_client_is_served(port)
    await port.has_forgotten_all_calls()


async def test_answers_that_nobody_reads_keep_nobody_else_waiting(port):
    """3 MB that would fit the windows of HTTP/2, but not the buffers of TCP."""
    window = 2**31 - 1
    more = http2.frame(http2.WINDOW_UPDATE, payload=(window - 65_535).to_bytes(4, "big"))
    async with connection(port, INITIAL_WINDOW_SIZE=window) as attacker:
        streams = range(1, 2 * STREAMS_PER_CONNECTION, 2)
        await attacker.send(more, *(http2.call(each, LARGE, message=b"") for each in streams))
        await a_good_client_is_served(port)


async def test_answers_that_no_window_is_left_for_keep_nobody_else_waiting(port):
    async with connection(port, INITIAL_WINDOW_SIZE=0) as attacker, read(attacker):
        streams = range(1, 2 * STREAMS_PER_CONNECTION, 2)
        await attacker.send(*(http2.call(each, LARGE, message=b"") for each in streams))
        await a_good_client_is_served(port)


CLIENT = Path(__file__).with_name("holding_client.py")


@asynccontextmanager
async def client_process(port, held, calls=20):
    """A client in a process of its own, whose calls are all held up."""
    process = await asyncio.create_subprocess_exec(sys.executable, CLIENT, port.target, str(calls))
    try:
        async with asyncio.timeout(20):
            for _ in range(calls):
                await held.acquire()
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_a_client_that_is_killed_leaves_nothing(port, held):
    async with client_process(port, held) as process:
        process.kill()
        await port.has_forgotten_all_calls()


async def test_a_client_that_is_frozen_keeps_nobody_else_waiting(port, held):
    async with client_process(port, held) as process:
        process.send_signal(signal.SIGSTOP)
        await a_good_client_is_served(port)


async def test_a_client_that_is_frozen_is_given_up_when_it_does_not_answer(serving, held):
    async def hold(_payload, _invocation):
        held.release()
        await asyncio.Event().wait()

    keepalive = (("grpc.keepalive_time_ms", 300), ("grpc.http2.ping_timeout_ms", 300))
    async with (
        serving(unary={HOLD: hold}, options=keepalive) as port,
        client_process(port, held) as process,
    ):
        process.send_signal(signal.SIGSTOP)
        await port.has_forgotten_all_calls()


@pytest.mark.parametrize("path", [None, CALL, HOLD, HOLD_STREAM, LARGE])
async def test_a_client_that_does_nothing_keeps_no_engine_from_stopping(port_that_stops, path):
    """It neither reads nor answers, whether it has called or not."""
    async with connection(port_that_stops, INITIAL_WINDOW_SIZE=0) as silent:
        if path is not None:
            streams = range(1, 2 * STREAMS_PER_CONNECTION, 2)
            await silent.send(*(http2.call(each, path, message=b"") for each in streams))
        await a_good_client_is_served(port_that_stops)
        async with asyncio.timeout(AT_ONCE_SECONDS):
            await port_that_stops.engine.stop(0.1)


async def test_clients_are_told_to_go_elsewhere_while_their_calls_go_on(port_that_stops, held):
    async with (
        connection(port_that_stops) as client,
        read(client, http2.Seen(answers_pings=True)) as seen,
    ):
        await client.send(http2.call(1, HOLD, message=b""))
        async with asyncio.timeout(10):
            await held.acquire()
        stopping = asyncio.create_task(port_that_stops.engine.stop(20))
        await eventually(lambda: http2.GOAWAY in seen.kinds)
        assert not seen.ended
        assert not stopping.done()
        await client.send(http2.reset(1))
        async with asyncio.timeout(AT_ONCE_SECONDS):
            await stopping


@pytest.mark.parametrize("grace", [0, 0.05, 5])
async def test_an_engine_stops_while_calls_of_every_kind_come(port_that_stops, grace):
    async def attack(first_path):
        with suppress(ConnectionError):
            while True:
                async with connection(port_that_stops) as attacker, read(attacker):
                    for each in range(1, 80, 8):
                        await attacker.send(
                            http2.call(each, first_path, message=b"x"),
                            http2.call(each + 2, STREAM, message=b"x"),
                            http2.call(each + 4, HOLD_STREAM, message=b"x"),
                            *(http2.reset(each + 4), http2.call(each + 6, UNKNOWN)),
                        )
                        await asyncio.sleep(0)

    attackers = [asyncio.create_task(attack(path)) for path in (CALL, LARGE, HOLD, CALL)]
    await asyncio.sleep(0.1)  # under way
    with capture_logs() as lines:
        async with asyncio.timeout(grace + AT_ONCE_SECONDS):
            await port_that_stops.engine.stop(grace)
            await asyncio.gather(*attackers)
    # So many calls may be more than the engine takes at once, on a slow machine.
    assert {line["event"] for line in lines} <= {"calls_refused_for_overload"}


async def test_more_streams_than_a_connection_may_have_are_refused(port):
    streams = range(1, 2 * 5 * STREAMS_PER_CONNECTION, 2)
    async with connection(port) as attacker, read(attacker) as seen:
        await attacker.send(*(http2.call(each, HOLD, message=b"") for each in streams))
        await eventually(lambda: len(seen.ended) == 4 * STREAMS_PER_CONNECTION)
        await a_good_client_is_served(port)
        assert set(seen.ended) == set(streams[STREAMS_PER_CONNECTION:])
        assert set(seen.ended.values()) == {http2.RST_STREAM}


async def test_unknown_methods_called_again_and_again_are_each_refused(port):
    async with connection(port) as attacker, read(attacker) as seen:
        # A stream that has ended for its client may be one of the server's for a moment more.
        at_once = STREAMS_PER_CONNECTION // 2
        for first in range(0, 2_000, at_once):
            streams = range(2 * first + 1, 2 * (first + at_once), 2)
            await attacker.send(*(http2.call(each, UNKNOWN, message=b"") for each in streams))
            await eventually(lambda: seen.ended.keys() >= set(streams))  # noqa: B023  # at once
        assert set(seen.ended.values()) == {http2.HEADERS}
        await a_good_client_is_served(port)


async def test_headers_without_an_end_are_cut_off(port):
    """A flood of CONTINUATION frames: 64 MB, if they were all taken."""
    piece = http2.block((b"x-more", b"x" * 16_000))
    begun = http2.call(1, CALL, flags=0)
    async with connection(port) as attacker, read(attacker) as seen:
        with suppress(ConnectionError):
            await attacker.send(begun)
            for _ in range(4_000):
                await attacker.send(http2.frame(http2.CONTINUATION, 0, 1, piece))
            await attacker.send(http2.frame(http2.CONTINUATION, http2.END_HEADERS, 1))
        await a_good_client_is_served(port)
    assert http2.DATA not in seen.kinds


@pytest.mark.parametrize("nuisance", [http2.ping(), http2.settings()], ids=["PING", "SETTINGS"])
async def test_frames_that_want_an_answer_keep_nobody_else_waiting(port, nuisance):
    async with connection(port) as attacker:
        with suppress(ConnectionError):
            async with asyncio.timeout(1):
                for _ in range(200):
                    await attacker.send(nuisance * 1_000)
        await a_good_client_is_served(port)


@pytest.mark.parametrize(
    "header",
    [
        (b"x-octets", b"\xff\xfe\x80"),
        (b"x-nul", b"a\0b"),
        (b"x-bad-bin", b"!!! this is no base64 !!!"),
        (b"X-UPPER", b"x"),
        (b"x y", b"x"),
        (b"", b"x"),
        (b":path", b"/again"),
        (b"grpc-timeout", b"soon"),
        (b"grpc-timeout", b"99999999999H"),
        (b"grpc-encoding", b"nonsense"),
        (b"content-length", b"-1"),
    ],
    ids=lambda header: header[0].decode() or "empty",
)
async def test_headers_of_no_sense_end_their_call_or_connection_only(port, header):
    async with connection(port) as attacker, read(attacker) as seen:
        await attacker.send(http2.call(1, CALL, header, message=b"x"))
        await a_good_client_is_served(port)
        await eventually(lambda: 1 in seen.ended or http2.GOAWAY in seen.kinds)


@pytest.mark.parametrize(
    "data",
    [
        b"\x01" + (4).to_bytes(4, "big") + b"zzzz",  # "compressed", and nobody says how
        b"\x00" + (2**32 - 1).to_bytes(4, "big") + b"x",
        b"\x00" + (100).to_bytes(4, "big") + b"x",
        b"\x07" + (1).to_bytes(4, "big") + b"x",
        b"\x00",
    ],
    ids=["compressed", "4 GB", "too short", "unknown flag", "no length"],
)
@pytest.mark.parametrize("path", [CALL, STREAM])
async def test_messages_of_no_sense_end_their_call(port, path, data):
    async with connection(port) as attacker, read(attacker) as seen:
        message = http2.frame(http2.DATA, http2.END_STREAM, 1, data)
        await attacker.send(http2.call(1, path), message)
        await eventually(lambda: 1 in seen.ended)
        await a_good_client_is_served(port)
