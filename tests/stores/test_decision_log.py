"""Every decision stands in the log before it is answered, or is not answered (S13)."""

import asyncio
import json
import os
import stat
import threading
import time
from datetime import UTC, datetime, timedelta, timezone
from errno import ENOSPC
from fcntl import F_GETPIPE_SZ, fcntl
from pathlib import Path
from select import PIPE_BUF
from uuid import UUID

import pytest
from stepup_tests.metrics import metric

from stepup.domain.actor import CallerId
from stepup.domain.errors import StoreUnavailableError
from stepup.service.ports import DecisionEntry
from stepup.stores import decision_log
from stepup.stores.decision_log import JsonLinesDecisionLog

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def an_entry(number=1, decided_at=NOON, **facts):
    return DecisionEntry(UUID(int=number), decided_at, CallerId("console"), facts)


def numbers(text):
    return [UUID(json.loads(line)["decision_id"]).int for line in text.splitlines()]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "decisions.jsonl"


@pytest.fixture
def log(path):
    log = JsonLinesDecisionLog.open(path)
    yield log
    log.close()


@pytest.fixture
def pipe():
    """A pipe that takes what fits, and refuses the rest rather than wait."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with os.fdopen(reader, "rb", 0) as source, os.fdopen(writer, "wb", 0) as sink:
        log = JsonLinesDecisionLog.to(sink)
        yield log, source, sink
        log.close()


async def test_a_decision_is_one_line_of_json(log, path):
    facts = {"operation": "response.run_osquery", "decision": "allowed", "text": 'a\n"b" \u20ac'}
    await log.record([an_entry(**facts)])
    (line,) = path.read_text().splitlines()
    assert json.loads(line) == {
        "decision_id": "00000000-0000-0000-0000-000000000001",
        "decided_at": "2026-03-02T12:00:00.000000+00:00",
        "caller": "console",
        **facts,
    }


async def test_times_are_in_utc_to_the_microsecond(log, path):
    zone = timezone(timedelta(hours=2))
    await log.record([an_entry(decided_at=datetime(2026, 3, 2, 14, 0, 0, 7, zone))])
    assert json.loads(path.read_text())["decided_at"] == "2026-03-02T12:00:00.000007+00:00"


async def test_no_fact_takes_the_place_of_what_is_in_every_line(log, path):
    await log.record([an_entry(1, caller="someone", decision_id="x", decided_at_="y")])
    line = json.loads(path.read_text())
    assert line["caller"] == "console"
    assert UUID(line["decision_id"]).int == 1


async def test_two_processes_append_to_one_file(log, path):
    other = JsonLinesDecisionLog.open(path)
    for number in range(4):
        await (log, other)[number % 2].record([an_entry(number)])
    other.close()
    assert numbers(path.read_text()) == [0, 1, 2, 3]


@pytest.mark.usefixtures("log")
def test_a_new_file_is_ours_alone(path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"decisions\.jsonl"):
        JsonLinesDecisionLog.open(tmp_path / "none" / "decisions.jsonl")


async def test_a_full_disk_is_unavailable():
    log = JsonLinesDecisionLog.open(Path("/dev/full"))
    with pytest.raises(StoreUnavailableError):
        await log.record([an_entry()])
    log.close()


async def test_a_closed_log_is_unavailable(log):
    log.close()
    log.close()
    with pytest.raises(StoreUnavailableError):
        await log.record([an_entry()])


async def test_a_stream_that_is_closed_elsewhere_does_not_lead_lines_astray(pipe):
    """Its descriptor's number may be a socket's by then."""
    log, source, sink = pipe
    sink.close()
    await log.record([an_entry(1)])
    assert numbers(source.read(10_000)) == [1]


async def test_a_pipe_that_nobody_reads_from_any_more_is_unavailable(pipe):
    log, source, _ = pipe
    source.close()
    with pytest.raises(StoreUnavailableError):
        await log.record([an_entry()])


async def test_after_a_line_that_broke_off_the_next_starts_afresh(pipe):
    log, source, _ = pipe
    with pytest.raises(StoreUnavailableError):
        await log.record([an_entry(1), an_entry(2, filler="x" * 100_000)])
    whole, broken = source.read(1_000_000).splitlines()
    assert numbers(whole) == [1]
    with pytest.raises(json.JSONDecodeError):
        json.loads(broken)
    await log.record([an_entry(3)])
    await log.record([an_entry(4)])
    rest = source.read(10_000)
    assert rest.startswith(b"\n")
    assert numbers(rest.strip()) == [3, 4]


async def test_a_line_that_broke_off_before_a_restart_stays_apart(path):
    path.write_bytes(b'{"decision_id": "0000')
    log = JsonLinesDecisionLog.open(path)
    await log.record([an_entry(1)])
    log.close()
    _, line = path.read_text().splitlines()
    assert numbers(line) == [1]


@pytest.fixture
def writes(monkeypatch):
    """What is written to descriptors, write by write."""
    made = []
    write = os.write

    def noted(descriptor, octets):
        made.append(bytes(octets))
        return write(descriptor, octets)

    monkeypatch.setattr(os, "write", noted)
    return made


async def test_the_lines_of_a_turn_are_one_write_in_order(log, path, writes):
    await asyncio.gather(
        log.record([an_entry(1)]), log.record([an_entry(2), an_entry(3)]), log.record([an_entry(4)])
    )
    await log.record([an_entry(5)])
    assert [numbers(each.decode()) for each in writes] == [[1, 2, 3, 4], [5]]
    assert numbers(path.read_text()) == [1, 2, 3, 4, 5]


async def test_a_pipe_gets_as_many_lines_at_a_time_as_others_cannot_come_between(pipe, writes):
    log, source, _ = pipe
    await asyncio.gather(*[log.record([an_entry(n, filler="x" * 1000)]) for n in range(8)])
    assert [numbers(each.decode()) for each in writes] == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert all(len(each) <= PIPE_BUF for each in writes)
    assert numbers(source.read(10_000)) == list(range(8))


async def test_a_write_that_fails_is_counted_and_one_that_succeeds_is_not(log):
    before = metric("stepup_decision_log_failures_total")
    await log.record([an_entry()])
    assert metric("stepup_decision_log_failures_total") == before
    log.close()
    with pytest.raises(StoreUnavailableError):
        await log.record([an_entry()])
    assert metric("stepup_decision_log_failures_total") == before + 1


async def test_s13_when_a_write_fails_every_call_of_the_turn_is_unavailable():
    log = JsonLinesDecisionLog.open(Path("/dev/full"))
    outcomes = await asyncio.gather(
        *[log.record([an_entry(n)]) for n in range(3)], return_exceptions=True
    )
    log.close()
    assert [type(each) for each in outcomes] == [StoreUnavailableError] * 3
    # One for each call: what many raise gathers all their stacks.
    assert len(set(map(id, outcomes))) == 3


async def test_s13_whatever_goes_wrong_in_a_write_no_call_waits_for_ever(log, monkeypatch):
    def broken(_descriptor, _octets):
        raise RuntimeError

    monkeypatch.setattr(os, "write", broken)
    with pytest.raises(StoreUnavailableError):
        await asyncio.wait_for(log.record([an_entry()]), 10)


async def test_a_call_that_is_given_up_has_its_line_and_the_others_theirs(log, path):
    recording = [asyncio.create_task(log.record([an_entry(n)])) for n in range(3)]
    await asyncio.sleep(0)
    recording[1].cancel()
    outcomes = await asyncio.gather(*recording, return_exceptions=True)
    assert [type(each) for each in outcomes] == [type(None), asyncio.CancelledError, type(None)]
    assert numbers(path.read_text()) == [0, 1, 2]


async def test_closing_writes_what_waits(log, path):
    recording = asyncio.create_task(log.record([an_entry(1)]))
    await asyncio.sleep(0)
    log.close()
    await recording
    assert numbers(path.read_text()) == [1]


async def test_what_waits_goes_to_the_file_that_is_at_the_path_when_it_is_written(log, path):
    recording = asyncio.create_task(log.record([an_entry(1)]))
    await asyncio.sleep(0)
    path.rename(path.with_suffix(".1"))
    log.reopen()
    await recording
    assert numbers(path.read_text()) == [1]


async def test_s13_after_a_rename_lines_go_to_a_new_file(log, path):
    await log.record([an_entry(1)])
    rotated = path.rename(path.with_suffix(".1"))
    await log.record([an_entry(2)])
    assert numbers(rotated.read_text()) == [1]
    assert numbers(path.read_text()) == [2]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_s13_after_a_removal_lines_go_to_a_new_file(log, path):
    await log.record([an_entry(1)])
    path.unlink()
    await log.record([an_entry(2)])
    assert numbers(path.read_text()) == [2]


async def test_s13_lines_go_to_a_file_that_was_put_in_place_of_ours(log, path):
    path.rename(path.with_suffix(".1"))
    path.write_bytes(b'{"decision_id": "0000')  # broken off, as it were
    await log.record([an_entry(1)])
    _, line = path.read_text().splitlines()
    assert numbers(line) == [1]


async def test_a_truncated_file_goes_on_from_its_beginning(log, path):
    await log.record([an_entry(1)])
    os.truncate(path, 0)
    await log.record([an_entry(2)])
    assert numbers(path.read_text()) == [2]


async def test_a_line_that_broke_off_has_no_consequence_in_the_next_file(path):
    path.write_bytes(b'{"decision_id": "0000')
    log = JsonLinesDecisionLog.open(path)
    path.rename(path.with_suffix(".1"))
    await log.record([an_entry(1)])
    log.close()
    assert path.read_bytes()[:1] == b"{"


@pytest.mark.race
def test_s13_no_line_is_lost_or_torn_when_the_file_is_renamed_under_writers(path):
    """Three writers as of three processes, and somebody who rotates all the time."""
    writers, lines = 3, 400
    written = threading.Event()

    def write(first):
        async def record_all():
            log = JsonLinesDecisionLog.open(path)
            for number in range(first, first + lines, 2):
                await log.record([an_entry(number), an_entry(number + 1)])
                time.sleep(0.0001)  # noqa: ASYNC251  # the others' turn
            log.close()

        asyncio.run(record_all())

    def rotate():
        count = 0
        while not written.is_set():
            if path.exists():
                path.rename(path.with_suffix(f".{count}"))
                count += 1

    threads = [threading.Thread(target=write, args=(1000 * n,)) for n in range(writers)]
    rotator = threading.Thread(target=rotate)
    for thread in (*threads, rotator):
        thread.start()
    for thread in threads:
        thread.join()
    written.set()
    rotator.join()

    files = list(path.parent.glob("decisions.*"))
    found = [number for file in files for number in numbers(file.read_text())]
    assert len(files) > 2
    assert sorted(found) == [1000 * n + k for n in range(writers) for k in range(lines)]


@pytest.fixture
async def cut_off(tmp_path):
    """A log whose directory has become a file: no other log can be made there, not even by root."""
    directory = tmp_path / "logs"
    directory.mkdir()
    log = JsonLinesDecisionLog.open(directory / "decisions.jsonl")
    await log.record([an_entry(1)])
    directory.rename(tmp_path / "elsewhere")
    directory.touch()
    yield log
    log.close()


async def test_s13_a_file_that_cannot_be_opened_again_is_unavailable(cut_off, tmp_path):
    for _ in range(2):
        with pytest.raises(StoreUnavailableError):
            await cut_off.record([an_entry(2)])
    assert numbers((tmp_path / "elsewhere" / "decisions.jsonl").read_text()) == [1]


async def test_a_log_goes_on_as_soon_as_its_file_can_be_opened(cut_off, tmp_path):
    with pytest.raises(StoreUnavailableError):
        await cut_off.record([an_entry(2)])
    (tmp_path / "logs").unlink()
    (tmp_path / "logs").mkdir()
    await cut_off.record([an_entry(3)])
    assert numbers((tmp_path / "logs" / "decisions.jsonl").read_text()) == [3]


def test_reopening_what_cannot_be_opened_is_an_error(cut_off):
    with pytest.raises(NotADirectoryError):
        cut_off.reopen()


async def test_reopening_leaves_a_stream_as_it_is(pipe):
    log, source, _ = pipe
    log.reopen()
    await log.record([an_entry(1)])
    assert numbers(source.read(10_000)) == [1]


def test_a_closed_log_is_not_reopened(log, path):
    log.close()
    path.unlink()
    with pytest.raises(OSError, match="closed"):
        log.reopen()
    assert not path.exists()


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_no_descriptor_is_left_behind(log, path):
    before = descriptors()
    for _ in range(10):
        path.unlink()
        await log.record([an_entry()])
    assert descriptors() == before


@pytest.mark.parametrize("text", ["\u2028", "\u2029", "\x85", "\x9b2J", "\u202e", "\x7f", "\u20ac"])
async def test_s13_a_decision_is_one_line_of_ascii_for_every_reader(log, path, text):
    await log.record([an_entry(target=f"a{text}b")])
    written = path.read_bytes()
    assert written.isascii()
    assert b"\x7f" not in written
    [line] = written.decode().splitlines()
    assert json.loads(line)["target"] == f"a{text}b"


def fill(source, sink):
    """Fill a pipe to the last octet; returns what it holds."""
    size = fcntl(source.fileno(), F_GETPIPE_SZ)
    return os.write(sink.fileno(), b"x" * (size - 1) + b"\n")


@pytest.fixture
def blocking_pipe(monkeypatch):
    """A pipe as standard output is one, that is full."""
    monkeypatch.setattr(decision_log, "PATIENCE_SECONDS", 0.01)
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", 0) as source, os.fdopen(writer, "wb", 0) as sink:
        log = JsonLinesDecisionLog.to(sink)
        held = fill(source, sink)
        yield log, source, held
        log.close()


async def test_s13_on_a_full_pipe_decisions_fail_in_time_and_go_on_when_it_is_emptied(
    blocking_pipe,
):
    log, source, held = blocking_pipe
    with pytest.raises(StoreUnavailableError):
        await asyncio.wait_for(log.record([an_entry(1)]), 10)
    with pytest.raises(StoreUnavailableError):  # at once: it is known to be full
        await log.record([an_entry(2)])
    with pytest.raises(StoreUnavailableError, match="nobody empties"):
        await log.look()
    source.read(held)
    await log.look()
    await log.record([an_entry(3), an_entry(4)])
    assert numbers(source.read(100_000)) == [3, 4]


async def test_s13_decisions_wait_a_while_for_a_slow_reader_and_keep_their_order(
    blocking_pipe, monkeypatch
):
    log, source, held = blocking_pipe
    monkeypatch.setattr(decision_log, "PATIENCE_SECONDS", 60)
    recording = [
        asyncio.create_task(log.record([an_entry(n, filler="x" * 3000)])) for n in range(40)
    ]
    await asyncio.sleep(0.01)
    assert not any(each.done() for each in recording)
    read = b""
    while not all(each.done() for each in recording):
        read += source.read(held)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.gather(*recording)
    os.set_blocking(source.fileno(), False)
    read += source.read(1_000_000) or b""
    assert numbers(read[held:]) == list(range(40))


async def test_s13_a_batch_of_decisions_is_whole_lines_for_a_pipe(pipe, writes):
    log, _, _ = pipe
    await log.record([an_entry(n, filler="x" * 1000) for n in range(8)])
    assert [numbers(each.decode()) for each in writes] == [[0, 1, 2], [3, 4, 5], [6, 7]]


async def test_s17_a_look_at_a_log_that_works_writes_nothing(log, path):
    await log.look()
    assert path.read_bytes() == b""


async def test_s17_a_log_on_a_full_disk_is_not_writable():
    log = JsonLinesDecisionLog.open(Path("/dev/full"))
    with pytest.raises(StoreUnavailableError, match="No space left"):
        await log.look()
    log.close()


async def test_s17_a_pipe_that_nobody_reads_from_is_not_writable(pipe):
    log, source, _ = pipe
    await log.look()
    source.close()
    with pytest.raises(StoreUnavailableError, match="nobody reads"):
        await log.look()


async def test_s17_a_look_opens_again_what_was_taken_away(cut_off, tmp_path):
    with pytest.raises(StoreUnavailableError):
        await cut_off.look()
    (tmp_path / "logs").unlink()
    (tmp_path / "logs").mkdir()
    await cut_off.look()
    assert (tmp_path / "logs" / "decisions.jsonl").read_bytes() == b""


async def test_s17_a_file_that_refused_a_line_is_tried_without_a_line(log, path, monkeypatch):
    def refuse(_descriptor, _octets):
        raise OSError(ENOSPC, "full")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", refuse)
        with pytest.raises(StoreUnavailableError):
            await log.record([an_entry(1)])
    await log.look()
    assert path.read_bytes() == b""


async def test_a_named_pipe_is_opened_at_once_or_not_at_all_and_found_again(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(OSError, match="nobody reads from the named pipe"):
        JsonLinesDecisionLog.open(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log = JsonLinesDecisionLog.open(path)
    os.close(reader)
    with pytest.raises(StoreUnavailableError):
        await log.record([an_entry(1)])
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    await log.look()
    await log.record([an_entry(2)])
    assert numbers(os.read(reader, 10_000)) == [2]
    os.close(reader)
    log.close()


async def test_a_named_pipe_that_is_gone_while_it_is_full_does_not_spin(tmp_path):
    directory = tmp_path / "logs"
    directory.mkdir()
    path = directory / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log = JsonLinesDecisionLog.open(path)
    recording = [
        asyncio.create_task(log.record([an_entry(n, filler="x" * 3000)])) for n in range(40)
    ]
    await asyncio.sleep(0.01)
    directory.rename(tmp_path / "elsewhere")
    directory.touch()
    os.read(reader, 1_000_000)
    outcomes = await asyncio.gather(*recording, return_exceptions=True)
    assert StoreUnavailableError in map(type, outcomes)
    assert asyncio.get_running_loop().remove_writer(log._outlet.descriptor) is False  # noqa: SLF001
    log.close()
    os.close(reader)
