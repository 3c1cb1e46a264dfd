"""The server's log: what is in a line, and when it is written."""

import asyncio
import io
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from select import PIPE_BUF
from types import SimpleNamespace

import pytest
import structlog

from stepup.log_lines import LinesOfATurn
from stepup.telemetry import configure_logging


class Stream(io.BytesIO):
    """Keeps what is written, write by write."""

    def __init__(self):
        super().__init__()
        self.writes = []

    def write(self, octets):
        self.writes.append(octets)
        return len(octets)


@pytest.fixture
def stream():
    return Stream()


@pytest.fixture
def lines(stream):
    return LinesOfATurn(stream)


@pytest.fixture
def log(stream, monkeypatch):
    """A logger as `serve` has it."""
    before = structlog.get_config()
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(buffer=stream))
    configure_logging("info", "json")
    yield structlog.get_logger()
    structlog.configure(**before)


def the_line(stream):
    [line] = stream.writes
    assert line.endswith(b"\n")
    return json.loads(line)


# --- What is in a line ---


def test_a_line_has_event_level_fields_and_time(log, stream):
    log.info("call", code="OK", reason=None, duration_ms=0.5)
    line = the_line(stream)
    at = datetime.fromisoformat(line.pop("timestamp"))
    assert line == {
        "event": "call",
        "level": "info",
        "code": "OK",
        "reason": None,
        "duration_ms": 0.5,
    }
    assert at.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - at) < timedelta(minutes=1)


PLAIN, AS_ORJSON_CANNOT = "plain", "\ud800"


@pytest.mark.parametrize("text", [PLAIN, AS_ORJSON_CANNOT])
def test_the_time_ends_in_z(log, stream, text):
    log.info("call", text=text)
    assert the_line(stream)["timestamp"].endswith("Z")


@pytest.mark.parametrize(
    "value", ["\u20ac", "\x9b2J", "a\nb", "\ud800", 2**64, -(2**70)], ids=ascii
)
def test_whatever_it_holds_a_line_is_one_line_of_ascii(log, stream, value):
    log.info("call", value=value)
    [line] = stream.writes
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert the_line(stream)["value"] == value


@pytest.mark.parametrize("text", [PLAIN, AS_ORJSON_CANNOT])
def test_what_is_no_json_is_written_as_its_repr(log, stream, text):
    log.info("call", value={1}, text=text)
    assert the_line(stream)["value"] == "{1}"


def test_s11_a_stack_has_no_values(log, stream):
    secret = "hunter2"
    try:
        b""[len(secret)]
    except IndexError:
        log.exception("internal_error")
    assert "IndexError: " in the_line(stream)["exception"]
    assert "hunter2" not in str(stream.writes)


def test_what_is_below_the_level_is_not_written(log, stream):
    log.debug("call")
    assert not stream.writes


# --- When it is written ---


async def test_the_lines_of_a_turn_are_one_write_at_its_end(lines, stream):
    lines.info(b"1\n")
    lines.info(b"2\n")
    assert not stream.writes
    await asyncio.sleep(0)
    lines.info(b"3\n")
    await asyncio.sleep(0)
    assert stream.writes == [b"1\n2\n", b"3\n"]


async def test_a_warning_is_written_at_once_after_what_waits(lines, stream):
    lines.info(b"1\n")
    lines.warning(b"2\n")
    assert stream.writes == [b"1\n2\n"]
    lines.info(b"3\n")
    await asyncio.sleep(0)
    assert stream.writes == [b"1\n2\n", b"3\n"]


def test_without_an_event_loop_a_line_is_written_at_once(lines, stream):
    lines.info(b"1\n")
    assert stream.writes == [b"1\n"]


def test_a_loop_that_ended_in_between_holds_nothing_up(lines, stream):
    loop = asyncio.new_event_loop()

    async def log_in_the_last_turn():
        loop.call_soon(lines.info, b"1\n")

    loop.run_until_complete(log_in_the_last_turn())
    loop.close()

    async def log():
        lines.info(b"2\n")
        await asyncio.sleep(0)

    asyncio.run(log())
    assert b"".join(stream.writes) == b"1\n2\n"


async def test_no_write_is_larger_than_what_a_pipe_takes_in_one_piece(lines, stream):
    long, short = b"x" * PIPE_BUF + b"\n", b"x" * (PIPE_BUF // 2 - 1) + b"\n"
    for line in (short, short, short, long, short):
        lines.info(line)
    await asyncio.sleep(0)
    assert stream.writes == [short + short, short, long, short]


def test_no_line_of_any_thread_is_lost_or_torn(lines, stream):
    wanted = [f"{number}\n".encode() for number in range(4000)]

    def log(part):
        async def log_all():
            for number, line in enumerate(part):
                lines.info(line)
                if number % 7 == 0:
                    await asyncio.sleep(0)

        asyncio.run(log_all())

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(log, [wanted[first::4] for first in range(4)]))
    written = b"".join(stream.writes).splitlines(keepends=True)
    assert sorted(written) == sorted(wanted)
