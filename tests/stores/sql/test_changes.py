"""The promises of `ChangeFeed` (S10)."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from stepup.domain.actor import SessionHash, TenantId, UserId
from stepup.domain.changes import (
    EnrollmentEnded,
    PolicyChanged,
    SessionRevoked,
    UserRevocations,
    UserRevoked,
)
from stepup.stores.sql import Limits
from stepup.stores.sql.connection import Connection
from stepup.stores.sql.engine import parse_url, write_engine

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


# The revocations of one user

BOB, GLOBEX = UserId("bob"), TenantId("globex")
SECOND = timedelta(seconds=1)


async def revocations_of(database, tenant_id=ACME, user_id=ALICE):
    async with database.transaction() as records:
        return await records.changes.revocations_of(tenant_id, user_id)


async def test_s10_the_latest_revocation_of_a_user_is_found_and_every_ended_enrollment(database):
    await announce(
        database, UserRevoked(ACME, ALICE, NOW + SECOND), EnrollmentEnded(ACME, ALICE, "1")
    )
    await announce(
        database,
        UserRevoked(ACME, ALICE, NOW),
        EnrollmentEnded(ACME, ALICE, "2"),
        now=NOW + SECOND,
    )
    assert await revocations_of(database) == UserRevocations(
        NOW + SECOND, {"1": NOW, "2": NOW + SECOND}
    )


async def test_s10_what_voids_no_receipt_of_the_user_is_not_found(database):
    await announce(
        database,
        PolicyChanged(ACME, 7),
        SessionRevoked(ACME, ALICE, SessionHash("a" * 32), NOW),
        UserRevoked(ACME, BOB, NOW),
        EnrollmentEnded(ACME, BOB, "1"),
        UserRevoked(GLOBEX, ALICE, NOW),
        EnrollmentEnded(GLOBEX, ALICE, "1"),
    )
    assert await revocations_of(database) == UserRevocations()


async def test_s10_a_revocation_of_its_own_transaction_is_found(database):
    async with database.transaction() as records:
        await records.changes.announce(UserRevoked(ACME, ALICE, NOW), NOW)
        assert await records.changes.revocations_of(ACME, ALICE) == UserRevocations(NOW)


async def test_s10_revocations_are_found_by_an_index_that_has_no_sign_outs(
    database, url, monkeypatch
):
    sign_outs = [SessionRevoked(ACME, ALICE, SessionHash(f"{n:032x}"), NOW) for n in range(100)]
    await announce(database, *sign_outs, *CHANGES)
    statements = []

    async def note(_connection, statement, _read):
        statements.append(statement)
        return []

    monkeypatch.setattr(Connection, "every", note)
    await revocations_of(database)
    [statement] = statements
    engine = write_engine(parse_url(url), Limits())
    async with engine.connect() as connection:
        dialect = connection.dialect
        if dialect.name == "postgresql":
            # A table this small would be read from end to end.
            await connection.execute(text("SET enable_seqscan = off"))
        words = "EXPLAIN" if dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"
        query = statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True})
        plan = str((await connection.execute(text(f"{words} {query}"))).all())
        assert "ix_changes_tenant_id_user_id" in plan
    await engine.dispose()
