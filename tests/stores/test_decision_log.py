"""Every decision stands in the log before it is answered, or is not answered (S13)."""

import json
import os
import stat
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import MappingProxyType
from uuid import UUID

import pytest

from stepup.domain.actor import CallerId
from stepup.domain.errors import StoreUnavailableError
from stepup.service.ports import DecisionEntry
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


async def test_facts_hold_any_json(log, path):
    facts = {"of": [1, 2.5, None, True, {"deep": MappingProxyType({"er": "x"})}]}
    await log.record([DecisionEntry(UUID(int=1), NOON, CallerId("c"), MappingProxyType(facts))])
    assert json.loads(path.read_text())["of"] == [1, 2.5, None, True, {"deep": {"er": "x"}}]


async def test_no_fact_takes_the_place_of_what_is_in_every_line(log, path):
    await log.record([an_entry(1, caller="someone", decision_id="x", decided_at_="y")])
    line = json.loads(path.read_text())
    assert line["caller"] == "console"
    assert UUID(line["decision_id"]).int == 1


async def test_decisions_stand_in_order(log, path):
    await log.record([an_entry(1), an_entry(2)])
    await log.record([])
    await log.record([an_entry(3)])
    assert numbers(path.read_text()) == [1, 2, 3]


async def test_a_restart_appends(log, path):
    await log.record([an_entry(1)])
    log.close()
    again = JsonLinesDecisionLog.open(path)
    await again.record([an_entry(2)])
    again.close()
    assert numbers(path.read_text()) == [1, 2]


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


async def test_a_stream_gets_the_lines_at_once(pipe):
    log, source, _ = pipe
    await log.record([an_entry(1)])
    assert numbers(source.read(10_000)) == [1]


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
