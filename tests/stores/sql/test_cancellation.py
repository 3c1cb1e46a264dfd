"""A call may be cancelled anywhere: grpc.aio cancels handlers."""

import asyncio
import random
import types
from datetime import UTC, datetime
from itertools import count, pairwise
from uuid import uuid4

import pytest

from stepup.domain.actor import CallerId, TenantId, UserId
from stepup.domain.audit import NO_HASH, Event, EventKind, chain_hash
from stepup.domain.changes import EnrollmentEnded
from stepup.service.ports import EventQuery

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ACME = TenantId("acme")
ALICE = UserId("alice")
CANCELLATIONS = 200
AT_ONCE = 6
CONNECTIONS = 4


async def call(database):
    """Reads, then writes the same id in two places."""
    async with database.snapshot() as records:
        await records.authenticators.find(ACME, ALICE)
    async with database.transaction() as records:
        event_id = str(uuid4())
        await records.authenticators.find_for_update(ACME, ALICE)
        await records.changes.announce(EnrollmentEnded(ACME, ALICE, event_id), NOW)
        await records.audit.append(
            Event(ACME, EventKind.OTP_VERIFIED, NOW, CallerId("c"), ALICE, event_id=event_id)
        )
    return event_id


async def assert_consistent(database):
    """Nothing is there by half, and the chain is whole; returns the ids that are there."""
    async with database.snapshot() as records:
        changes = await records.changes.recent(NOW, None, 10_000)
        chain = await records.audit.list(EventQuery(ACME), 10_000)
    announced = {announced.change.enrollment_id for announced in changes}
    assert announced == {chained.event.event_id for chained in chain}
    assert [chained.sequence for chained in chain] == list(range(1, len(chain) + 1))
    assert chain[0].previous_hash == NO_HASH
    assert all(before.hash == after.previous_hash for before, after in pairwise(chain))
    assert all(
        chained.hash == chain_hash(chained.event, chained.sequence, chained.previous_hash)
        for chained in chain
    )
    return announced


async def assert_every_connection_works(database):
    together = asyncio.Barrier(CONNECTIONS)

    async def read():
        async with database.snapshot() as records:
            await together.wait()
            await records.accounts.mfa_enabled(ACME, ALICE)

    async with asyncio.timeout(2):
        await asyncio.gather(*(read() for _ in range(CONNECTIONS)))
        await asyncio.gather(*(call(database) for _ in range(CONNECTIONS * 2)))


async def cancelled_at_random(database, within, dice):
    loop = asyncio.get_running_loop()
    tasks = [asyncio.create_task(call(database)) for _ in range(AT_ONCE)]
    for task in tasks:
        loop.call_later(dice.uniform(0, within), task.cancel)
    return await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.race
async def test_after_hundreds_of_cancellations_all_is_well(database):
    dice = random.Random(20260301)  # noqa: S311 - no secret
    completed, cancelled, within = set(), 0, 0.01
    while cancelled < CANCELLATIONS:
        outcomes = await cancelled_at_random(database, within, dice)
        succeeded = {outcome for outcome in outcomes if isinstance(outcome, str)}
        assert all(isinstance(outcome, asyncio.CancelledError | str) for outcome in outcomes)
        completed |= succeeded
        cancelled += AT_ONCE - len(succeeded)
        # As long as the calls take on this machine now, so that some are early and some late.
        within *= 1.3 if len(succeeded) < AT_ONCE / 2 else 0.7

    await assert_every_connection_works(database)
    # What was acknowledged is there.
    assert completed <= await assert_consistent(database)


@types.coroutine
def cancelled_at(coroutine, points):
    """Run a coroutine, and cancel its task each time it waits for the n-th time."""
    wait, thrown = 0, None
    while True:
        try:
            future = coroutine.send(None) if thrown is None else coroutine.throw(thrown)
        except StopIteration as stop:
            return stop.value
        if wait in points:
            asyncio.current_task().cancel()
        wait, thrown = wait + 1, None
        try:
            yield future
        except BaseException as error:  # noqa: BLE001 - whatever it is, it goes on
            thrown = error


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_a_call_that_is_cancelled_at_any_point_leaves_nothing_by_half(database, times):
    for point in count():
        points = range(point, point + times)
        task = asyncio.create_task(wrapped(cancelled_at(call(database), points)))
        [outcome] = await asyncio.gather(task, return_exceptions=True)
        if isinstance(outcome, str):
            break
        assert isinstance(outcome, asyncio.CancelledError)
        async with asyncio.timeout(1):
            await call(database)
    assert point > 5
    await assert_every_connection_works(database)
    await assert_consistent(database)


async def wrapped(awaitable):
    return await awaitable


async def test_who_is_cancelled_while_waiting_gives_up_the_place(database):
    async with database.transaction():
        waiting = [asyncio.create_task(call(database)) for _ in range(CONNECTIONS * 2)]
        async with database.snapshot() as records:  # long enough for all to be waiting
            await records.accounts.mfa_enabled(ACME, ALICE)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    async with asyncio.timeout(1):
        await call(database)
