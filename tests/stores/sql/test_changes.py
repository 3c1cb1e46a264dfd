"""The promises of `ChangeFeed` (S10)."""

from datetime import UTC, datetime, timedelta

import pytest

from stepup.domain.actor import SessionHash, TenantId, UserId
from stepup.domain.changes import EnrollmentEnded, PolicyChanged, SessionRevoked, UserRevoked

NOW = datetime(2026, 3, 1, 12, 0, 0, 123457, tzinfo=UTC)
ACME = TenantId("acme")
ALICE = UserId("alice")
CHANGES = [
    PolicyChanged(ACME, 7),
    UserRevoked(ACME, ALICE, NOW),
    SessionRevoked(ACME, ALICE, SessionHash("a" * 32), NOW),
    EnrollmentEnded(ACME, ALICE, "enrollment-1"),
]


async def announce(database, *changes, now=NOW):
    async with database.transaction() as records:
        for change in changes:
            await records.changes.announce(change, now)


async def read(database, after=0):
    async with database.snapshot() as records:
        return await records.changes.read(after)


async def purge(database, before):
    async with database.transaction() as records:
        await records.changes.purge(before)


async def test_what_was_announced_is_read_in_order(database):
    await announce(database, *CHANGES)
    assert [change for _, change in await read(database)] == CHANGES


async def test_numbers_grow(database):
    await announce(database, *CHANGES)
    numbers = [number for number, _ in await read(database)]
    assert numbers == sorted(set(numbers))


async def test_only_later_changes_are_read(database):
    await announce(database, *CHANGES)
    [_, (second, _), *later] = await read(database)
    assert await read(database, after=second) == later


@pytest.mark.parametrize(
    ("later", "left"), [(timedelta(), CHANGES), (timedelta(microseconds=1), [])]
)
async def test_what_was_announced_before_is_purged(database, later, left):
    await announce(database, *CHANGES)
    await purge(database, NOW + later)
    assert [change for _, change in await read(database)] == left


async def test_a_purged_number_is_never_given_again(database):
    await announce(database, *CHANGES)
    last = (await read(database))[-1][0]
    await purge(database, NOW + timedelta(days=1))
    await announce(database, CHANGES[0])
    assert (await read(database))[0][0] > last


async def test_a_change_that_was_rolled_back_is_not_heard_of(database):
    async def give_up():
        async with database.transaction() as records:
            await records.changes.announce(CHANGES[0], NOW)
            raise LookupError

    with pytest.raises(LookupError):
        await give_up()
    assert await read(database) == []
