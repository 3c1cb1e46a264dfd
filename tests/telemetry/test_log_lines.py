"""The server's log: what is in a line, and when it is written."""

import asyncio
import io
import json
import logging
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from errno import ENOSPC
from select import PIPE_BUF

import pytest
import structlog
from grpc import StatusCode
from stepup_tests.metrics import metric

from stepup.rpc.wire import errors
from stepup.system.outlet import Outlet, portions
from stepup.telemetry import logs as telemetry
from stepup.telemetry.log_lines import MAX_WAITING_LINES, LinesOfATurn, as_json_line
from stepup.telemetry.logs import configure_logging, info_writer


class Stream(io.BytesIO):
    """Keeps what is written, write by write."""

    descriptor = 2

    def __init__(self):
        super().__init__()
        self.writes = []

    def write(self, octets):
        self.writes.append(octets)
        return len(octets)

    def portions(self, lines):
        return list(portions(lines))


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
    monkeypatch.setattr(telemetry, "_standard_error", lambda: stream)
    monkeypatch.setattr(sys, "stderr", sys.stderr)  # it is put back afterwards
    configure_logging("info", "json")
    yield structlog.get_logger()
    structlog.configure(**before)


def the_line(stream):
    [line] = stream.writes
    assert line.endswith(b"\n")
    return json.loads(line)


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


def test_a_line_of_the_info_writer_is_that_of_structlog(log, stream):
    fields = {"peer": "\x7f\u2028é", "caller": None, "duration_ms": 0.5, "decisions": ["a/b"]}
    log.info("call", **fields)
    info_writer()("call", dict(fields))
    ours, its = (re.sub(rb'"timestamp":"[^"]*"', b"", line) for line in stream.writes)
    assert ours == its


@pytest.mark.usefixtures("log")
def test_the_info_writer_keeps_to_the_level(stream):
    configure_logging("warning", "json")
    info_writer()("call", {})
    assert not stream.writes


def test_what_is_below_the_level_is_not_written(log, stream):
    log.debug("call")
    assert not stream.writes


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


@pytest.fixture
def pipe():
    """A pipe that blocks, as standard error does, of which we read when we like."""
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", 0) as source, os.fdopen(writer, "wb", 0) as sink:
        outlet = Outlet.to(sink)
        yield LinesOfATurn(outlet), source, sink
        outlet.close()


def dropped():
    return metric("stepup_log_lines_dropped_total")


def test_s18_a_full_pipe_holds_nobody_up_and_its_lines_are_dropped_and_counted(pipe):
    lines, source, sink = pipe
    before = dropped()
    line = b"x" * 999 + b"\n"
    for _ in range(MAX_WAITING_LINES + 500):
        lines.warning(line)
    lost = dropped() - before
    assert lost > 0
    assert os.get_blocking(sink.fileno()), "its flags are other processes', too"
    read = b""
    while b"log_lines_lost" not in read:
        read += source.read(1_000_000)
        lines.warning(line)
    [told] = [each for each in read.splitlines() if each != line[:-1]]
    assert json.loads(told)["event"] == "log_lines_lost"
    assert lost <= json.loads(told)["lines"] <= dropped() - before


def test_s18_a_pipe_that_nobody_reads_from_raises_nothing_and_counts(pipe):
    lines, source, _ = pipe
    source.close()
    before = dropped()
    for level in (lines.info, lines.warning):
        level(b"1\n")
    assert dropped() - before == 2


def test_s18_an_internal_error_is_answered_also_where_it_cannot_be_logged(pipe, monkeypatch):
    lines, source, _ = pipe
    source.close()
    log = structlog.wrap_logger(lines, processors=[as_json_line])
    monkeypatch.setattr(errors, "_log", log)
    assert errors.to_status(RuntimeError("a bug")).code is StatusCode.INTERNAL


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize("stream", ["/dev/full", None], ids=["full", "closed"])
def test_s18_whatever_standard_error_is_logging_does_not_raise(monkeypatch, stream, log_format):
    before, lost = structlog.get_config(), dropped()
    with open(stream or os.devnull, "wb", 0) as file:  # noqa: PTH123
        monkeypatch.setattr(sys, "__stderr__", file if stream else None)
        monkeypatch.setattr(sys, "stderr", sys.stderr)
        configure_logging("info", log_format)
        structlog.get_logger().error("trouble")
        logging.getLogger("asyncio").error("Task exception was never retrieved")
        sys.stderr.write("a traceback\n")
    structlog.configure(**before)
    assert dropped() - lost == 3


def test_after_a_full_disk_lines_are_written_again_on_a_line_of_their_own(lines, stream):
    write = stream.write
    stream.write = lambda octets: full() if stream.writes else write(octets[:1]) and 1
    lines.error(b"12\n")
    stream.write = write
    lines.error(b"34\n")
    written = b"".join(stream.writes).split(b"\n")
    assert written[1] == b"34"
    assert json.loads(written[2])["lines"] == 1


def full():
    raise OSError(ENOSPC, "full")


async def test_lines_that_wait_for_a_pipe_are_tried_again_without_another_line(lines, stream):
    write, stream.write = stream.write, would_block
    lines.error(b"1\n")
    stream.write = write
    loop = asyncio.get_running_loop()
    [retry] = [each for each in loop._scheduled if "_retry" in repr(each)]  # noqa: SLF001
    retry._run()  # noqa: SLF001
    retry.cancel()
    assert stream.writes == [b"1\n"]


def would_block(_octets):
    raise BlockingIOError


def test_a_line_that_is_logged_within_a_write_is_written_after_it(lines, stream):
    """As by the garbage collector, which may destroy a task at any time."""
    write = stream.write

    def collect(octets):
        stream.write = write
        lines.error(b"2\n")
        return write(octets)

    stream.write = collect
    lines.error(b"1\n")
    assert stream.writes == [b"1\n", b"2\n"]


class Unprintable:
    def __repr__(self):
        raise RuntimeError


def test_a_value_that_cannot_be_shown_is_a_line_all_the_same(log, stream):
    log.info("call", value=Unprintable())
    assert the_line(stream)["event"] == "call"


@pytest.mark.parametrize("value", ["\u2028", "\x85", "\x9b2J", "\u202e", "\x7f", "\x1b[2J"])
def test_to_a_terminal_no_value_is_a_command(stream, monkeypatch, value):
    before = structlog.get_config()
    monkeypatch.setattr(telemetry, "_standard_error", lambda: stream)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    configure_logging("info", "console")
    structlog.get_logger().info("call", value=value)
    structlog.configure(**before)
    written = b"".join(stream.writes).decode()
    assert written.isascii()
    assert value not in written
