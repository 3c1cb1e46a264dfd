"""S18: work of one tenant in SQL stops neither that of another tenant nor the change feed."""

import asyncio
from contextlib import AsyncExitStack, nullcontext
from datetime import timedelta

import pytest
from stepup_tests.clock import ManualClock

from stepup.domain.actor import TenantId
from stepup.domain.errors import StoreUnavailableError
from stepup.service.audit.events import AuditEvents
from stepup.service.policy.snapshots import Snapshots
from stepup.service.ports import EventQuery
from stepup.stores.sql import Limits, SqlDatabase

ACME, GLOBEX = TenantId("acme"), TenantId("globex")
CONNECTIONS = 4


@pytest.fixture
async def database(sqlite):
    limits = Limits(connections=CONNECTIONS, wait=timedelta(seconds=0.2))
    database = SqlDatabase(sqlite, limits)
    yield database
    await database.close()


async def hold(stack, snapshots):
    """Hold as many of these as are given within the patience of the database."""
    held = 0
    for snapshot in snapshots:
        try:
            await stack.enter_async_context(snapshot)
        except StoreUnavailableError:
            break
        held += 1
    return held


async def test_s18_the_change_feed_is_read_while_every_reading_connection_is_held(database):
    feed = Snapshots(database, ManualClock())
    async with AsyncExitStack() as stack:
        assert await hold(stack, (database.snapshot() for _ in range(99))) == CONNECTIONS
        await feed.poll()
    assert feed.is_fresh


async def test_s18_a_tenant_holds_half_of_the_reading_connections(database):
    async with AsyncExitStack() as stack:
        assert await hold(stack, (database.snapshot(ACME) for _ in range(99))) == CONNECTIONS // 2
        assert await hold(stack, (database.snapshot(GLOBEX) for _ in range(99))) == CONNECTIONS // 2


async def test_s18_a_write_stands_behind_one_of_another_tenant_not_behind_all(database):
    done, may_end = [], asyncio.Event()

    async def write(tenant):
        async with database.transaction(tenant):
            await may_end.wait()
            done.append(tenant)

    tasks = [asyncio.create_task(write(ACME)) for _ in range(10)]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(write(GLOBEX)))
    await asyncio.sleep(0)
    may_end.set()
    await asyncio.gather(*tasks)
    assert done.index(GLOBEX) <= 2


async def test_s18_audit_readers_leave_half_of_the_connections_whatever_their_tenants():
    begun, may_end = [], asyncio.Event()

    class Slow:
        """A trail in which nothing is found for a long time."""

        @property
        def audit(self):
            return self

        async def list(self, query, _limit):
            begun.append(query.tenant_id)
            await may_end.wait()
            return []

    class Database:
        def snapshot(self, _tenant_id):
            return nullcontext(Slow())

    events = AuditEvents(Database(), None)
    tasks = [
        asyncio.create_task(events.list(EventQuery(TenantId(f"t-{number // 10}")), 10))
        for number in range(50)
    ]
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(begun) == 4
    assert max(map(begun.count, begun)) == 2
    may_end.set()
    await asyncio.gather(*tasks)
    assert len(begun) == 50
