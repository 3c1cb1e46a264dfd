"""What was acknowledged survives `kill -9`; what was not is there entirely or not at all (S13)."""

import asyncio
import os
import sys
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stepup.domain.actor import CallerId, TenantId, UserId
from stepup.domain.audit import Event, EventKind
from stepup.service.ports import EventQuery

ACME = TenantId("acme")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
WRITER = Path(__file__).with_name("writer.py")


@asynccontextmanager
async def writer(url, mode):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        WRITER,
        mode,
        env={**os.environ, "STEPUP_TEST_URL": url},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def acknowledged_before_the_kill(url, count):
    async with writer(url, "until-killed") as process:
        lines = [await process.stdout.readline() for _ in range(count)]
        process.kill()
        lines += (await process.stdout.read()).splitlines()
    return [int(line) for line in lines]


async def stored(database):
    """The sequence numbers of both halves of the pairs."""
    async with database.snapshot() as records:
        chain = await records.audit.list(EventQuery(ACME), 100_000)
        changes = await records.changes.recent(NOW, None, 100_000)
    return (
        [chained.sequence for chained in chain],
        [announced.change.version for announced in changes],
    )


async def test_every_acknowledged_write_survives_a_kill(url, database):
    acknowledged = await acknowledged_before_the_kill(url, 20)
    events, changes = await stored(database)
    assert acknowledged == list(range(1, len(acknowledged) + 1))
    # One more may have been committed, and not yet said.
    assert len(acknowledged) <= len(events) <= len(acknowledged) + 1
    assert events == changes


async def test_nothing_of_an_open_transaction_survives_a_kill(url, database):
    async with writer(url, "half") as process:
        assert await process.stdout.readline() == b"half\n"
    assert await stored(database) == ([], [])


async def test_a_killed_writer_keeps_nobody_waiting(url, database):
    async with writer(url, "half") as process:
        await process.stdout.readline()
    async with asyncio.timeout(2), database.transaction() as records:
        event = Event(ACME, EventKind.OTP_VERIFIED, NOW, CallerId("c"), UserId("alice"))
        assert (await records.audit.append(event)).sequence == 1


async def test_a_reader_sees_no_half_of_what_another_process_writes(url, database):
    async with writer(url, "until-killed") as process:
        for _ in range(20):
            await process.stdout.readline()
            events, changes = await stored(database)
            # The halves are read one after the other: the later read may see more, never less.
            assert changes[: len(events)] == events


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_full_disk_loses_nothing_and_passes(url, database, sqlite_path):
    limit = sqlite_path.stat().st_size + 200_000
    async with writer(url, str(limit)) as process:
        lines = (await process.stdout.read()).decode().splitlines()
        assert await process.wait() == 0
    full = lines.index("full")
    assert full > 0
    numbers = [int(line) for line in [*lines[:full], *lines[full + 1 :]]]
    events, changes = await stored(database)
    assert events == changes == numbers == list(range(1, len(lines)))
