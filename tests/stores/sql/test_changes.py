"""The promises of `ChangeFeed` (S10, S27, S28)."""

import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import NullPool, make_url, text
from sqlalchemy.dialects import sqlite as sqlite_dialect
from sqlalchemy.ext.asyncio import create_async_engine
from stepup_tests.postgres import new_database

from stepup.domain.actor import SessionHash, TenantId, UserId
from stepup.domain.changes import (
    EnrollmentEnded,
    PolicyChanged,
    SessionRevoked,
    UserRevocations,
    UserRevoked,
)
from stepup.service.ports import Announced, FeedPosition
from stepup.stores.sql import Limits, SqlDatabase, upgrade
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


async def position(database):
    async with database.snapshot() as records:
        return await records.changes.position()


async def read(database, since=NOW, limit=100):
    """What a worker that starts reads, in portions."""
    found, portion = [], None
    while portion is None or len(portion) == limit:
        async with database.snapshot() as records:
            after = portion[-1] if portion else None
            portion = await records.changes.recent(since, after, limit)
        found += [announced.change for announced in portion]
    return found


async def between(database, start, end, limit=100):
    """What a worker reads that knows everything up to `start`."""
    async with database.snapshot() as records:
        found, portion = list(await records.changes.late_commits(start)), None
        while portion is None or len(portion) == limit:
            after = portion[-1] if portion else None
            portion = await records.changes.between(start, end, after, limit)
            found += [announced.change for announced in portion]
    return found


async def purge(database, before, limit=100):
    async with database.transaction() as records:
        return await records.changes.purge(before, limit)


@pytest.mark.parametrize("limit", [1, 3, 4, 100])
async def test_s27_what_was_announced_lately_is_read_in_portions(database, limit):
    await announce(database, CHANGES[0], now=NOW - timedelta(microseconds=1))
    await announce(database, *CHANGES)
    await announce(database, CHANGES[1], now=NOW + timedelta(seconds=1))
    assert await read(database, limit=limit) == [*CHANGES, CHANGES[1]]


async def test_the_newest_change_says_when_it_was_announced(database):
    async with database.snapshot() as records:
        assert await records.changes.newest() is None
    await announce(database, CHANGES[0], now=NOW + timedelta(seconds=1))
    await announce(database, CHANGES[0])
    async with database.snapshot() as records:
        assert await records.changes.newest() == NOW + timedelta(seconds=1)


@pytest.mark.parametrize("limit", [1, 3, 100])
async def test_s27_only_what_lies_between_two_positions_is_read(database, limit):
    await announce(database, CHANGES[0])
    start = await position(database)
    await announce(database, *CHANGES[1:])
    end = await position(database)
    await announce(database, CHANGES[0])
    assert end.continues(start)
    assert await between(database, start, end, limit) == CHANGES[1:]


async def test_where_nothing_has_happened_the_position_stays(database):
    before = await position(database)
    after = await position(database)
    assert after.continues(before)
    assert after.server == before.server
    assert await between(database, before, after) == []


@pytest.mark.parametrize(
    ("later", "left"), [(timedelta(), CHANGES), (timedelta(microseconds=1), [])]
)
async def test_what_was_announced_before_is_purged(database, later, left):
    await announce(database, *CHANGES)
    await purge(database, NOW + later)
    assert await read(database) == left


async def test_s27_it_is_purged_in_portions(database):
    await announce(database, *CHANGES)
    removed = [await purge(database, NOW + timedelta(days=1), limit=3) for _ in range(3)]
    assert removed == [3, 1, 0]


async def test_a_position_goes_on_when_everything_was_purged(database):
    await announce(database, *CHANGES)
    start = await position(database)
    await purge(database, NOW + timedelta(days=1))
    await announce(database, CHANGES[0])
    end = await position(database)
    assert end.continues(start)
    assert await between(database, start, end) == [CHANGES[0]]


# The revocations of one user

BOB, GLOBEX = UserId("bob"), TenantId("globex")
SECOND = timedelta(seconds=1)


async def revocations_of(database, *session):
    async with database.transaction() as records:
        return await records.changes.revocations_of(ACME, ALICE, *session)


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


async def test_s10_the_latest_sign_out_of_a_session_that_is_asked_for_is_found(database):
    this, other = SessionHash("a" * 32), SessionHash("b" * 32)
    await announce(
        database,
        SessionRevoked(ACME, ALICE, this, NOW + SECOND),
        SessionRevoked(ACME, ALICE, this, NOW),
        SessionRevoked(ACME, ALICE, other, NOW + 3 * SECOND),
        SessionRevoked(ACME, BOB, this, NOW + 3 * SECOND),
        SessionRevoked(GLOBEX, ALICE, this, NOW + 3 * SECOND),
        EnrollmentEnded(ACME, ALICE, "1"),
    )
    ended = {"1": NOW}
    assert await revocations_of(database, this) == UserRevocations(NOW + SECOND, ended)
    await announce(database, UserRevoked(ACME, ALICE, NOW + 2 * SECOND))
    assert await revocations_of(database, this) == UserRevocations(NOW + 2 * SECOND, ended)


async def test_s10_a_revocation_of_its_own_transaction_is_found(database):
    async with database.transaction() as records:
        await records.changes.announce(UserRevoked(ACME, ALICE, NOW), NOW)
        assert await records.changes.revocations_of(ACME, ALICE) == UserRevocations(NOW)


async def test_s10_revocations_are_found_by_indexes_that_have_few_sign_outs(
    database, url, monkeypatch
):
    sign_outs = [SessionRevoked(ACME, ALICE, SessionHash(f"{n:032x}"), NOW) for n in range(100)]
    await announce(database, *sign_outs, *CHANGES)
    statements = []

    async def note(_connection, statement, _read):
        statements.append(statement)
        return []

    monkeypatch.setattr(Connection, "fetch_all", note)
    await revocations_of(database, SessionHash("a" * 32))
    indexes = ["ix_changes_tenant_id_user_id", "ix_changes_session_hash"]
    engine = write_engine(parse_url(url), Limits())
    async with engine.connect() as connection:
        dialect = connection.dialect
        if dialect.name == "postgresql":
            # A table this small would be read from end to end.
            await connection.execute(text("SET enable_seqscan = off"))
        words = "EXPLAIN" if dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"
        for statement, index in zip(statements, indexes, strict=True):
            query = statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True})
            plan = str((await connection.execute(text(f"{words} {query}"))).all())
            assert index in plan
    await engine.dispose()


@pytest.fixture
async def postgresql_url(postgres, postgres_template):
    async with new_database(postgres, postgres_template) as url:
        yield url


@pytest.fixture
async def postgresql(postgresql_url):
    database = SqlDatabase(postgresql_url)
    yield database
    await database.close()


async def test_s10_s27_what_commits_out_of_order_is_read_once(postgresql):
    late, in_time, later = CHANGES[1:]
    async with postgresql.transaction() as slow:
        await slow.changes.announce(late, NOW)
        await announce(postgresql, in_time)
        first = await position(postgresql)
        assert first.in_flight
    second = await position(postgresql)
    assert await between(postgresql, first, second) == [late]
    await announce(postgresql, later)
    third = await position(postgresql)
    assert await between(postgresql, second, third) == [later]


async def test_s27_a_transaction_that_is_forgotten_makes_nothing_be_read_again(postgresql):
    """It holds back the oldest number that is in flight, for as long as it lies there."""
    async with postgresql.transaction() as forgotten:
        await forgotten.accounts.set_mfa_enabled(ACME, ALICE, enabled=True)
        await announce(postgresql, *CHANGES)
        start = await position(postgresql)
        assert await between(postgresql, start, await position(postgresql)) == []


async def test_s27_a_server_of_the_version_before_numbers_its_changes_too(
    postgresql, postgresql_url
):
    start = await position(postgresql)
    await execute(
        postgresql_url,
        "INSERT INTO changes (created_at, kind, tenant_id, version)"
        " VALUES (now(), 'policy_changed', 'acme', 7)",
    )
    assert await between(postgresql, start, await position(postgresql)) == [CHANGES[0]]


async def test_s28_an_ordinary_role_may_read_the_position(postgresql, postgresql_url):
    role = f"reader_{uuid4().hex}"
    await execute(
        postgresql_url,
        f"CREATE ROLE {role} LOGIN",
        f"GRANT SELECT ON changes, folded_ids TO {role}",
    )
    ordinary = SqlDatabase(
        make_url(postgresql_url).set(username=role).render_as_string(hide_password=False)
    )
    assert (await position(ordinary)).server == (await position(postgresql)).server
    await ordinary.close()
    await execute(postgresql_url, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


async def test_s28_another_database_of_the_same_name_is_another_place(postgres, postgresql_url):
    async def place():
        database = SqlDatabase(postgresql_url)
        found = await position(database)
        await database.close()
        return found

    before = await place()
    name = make_url(postgresql_url).database
    await execute(postgres, f"DROP DATABASE {name} WITH (FORCE)", f"CREATE DATABASE {name}")
    await upgrade(postgresql_url)
    assert not (await place()).continues(before)


async def test_s28_tables_that_a_restore_has_created_anew_are_another_place(
    postgresql, postgresql_url
):
    before = await position(postgresql)
    await execute(
        postgresql_url,
        "CREATE TABLE restored (LIKE changes INCLUDING ALL)",
        "ALTER TABLE changes RENAME TO of_before",
        "ALTER TABLE restored RENAME TO changes",
    )
    assert not (await position(postgresql)).continues(before)


async def execute(url, *statements):
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    async with engine.connect() as connection:
        for statement in statements:
            await connection.execute(text(statement))


async def test_s28_a_file_that_was_replaced_is_another_place(sqlite, sqlite_path):
    database = SqlDatabase(sqlite)
    before = await position(database)
    restored = sqlite_path.with_name("restored.db")
    shutil.copy(sqlite_path, restored)
    restored.rename(sqlite_path)
    assert not (await position(database)).continues(before)
    await database.close()


@pytest.mark.parametrize("read_portion", ["recent", "between"])
async def test_s27_a_portion_costs_the_same_however_many_were_read(
    sqlite, sqlite_path, monkeypatch, read_portion
):
    """Changes of one instant, too: if each portion began at the first, a start took minutes."""
    rows = 20_000
    row = (NOW.replace(tzinfo=None).isoformat(" "), "policy_changed", "acme")
    with closing(sqlite3.connect(sqlite_path)) as connection, connection:
        connection.executemany(
            "INSERT INTO changes (created_at, kind, tenant_id, version) VALUES (?, ?, ?, 7)",
            [row] * rows,
        )
    statements, fetch_all = [], Connection.fetch_all

    async def note(self, statement, read, **values):
        statements.append((statement, values))
        return await fetch_all(self, statement, read, **values)

    monkeypatch.setattr(Connection, "fetch_all", note)
    database = SqlDatabase(sqlite)
    end = await position(database)
    last = Announced(NOW, rows - 10, rows - 10, CHANGES[0])
    statements.clear()
    async with database.snapshot() as records:
        if read_portion == "recent":
            assert len(await records.changes.recent(NOW, last, 100)) == 10
        else:
            start = FeedPosition(end.server, 1)
            assert len(await records.changes.between(start, end, last, 100)) == 10
    await database.close()
    assert sum(steps(sqlite_path, *statement) for statement in statements) < rows / 10


def steps(path, statement, values):
    """How many of its instructions SQLite runs for a statement, to the hundred."""
    compiled = statement.compile(dialect=sqlite_dialect.dialect())
    bound = [
        value.replace(tzinfo=None).isoformat(" ") if isinstance(value, datetime) else value
        for value in map(compiled.construct_params(values).get, compiled.positiontup)
    ]
    counted = []
    with closing(sqlite3.connect(path)) as connection:
        connection.set_progress_handler(lambda: counted.append(100), 100)
        connection.execute(str(compiled), bound).fetchall()
    return sum(counted)
