"""The schema goes up and down, and is refused when it is not the one that the code needs."""

import asyncio
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from alembic import op
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import String, func, insert, inspect, select, text
from stepup_tests.challenges import challenge_of
from stepup_tests.enrolled import store_enrolled
from stepup_tests.keys import fresh_ring
from stepup_tests.people import person

from stepup.domain.actor import CallerId, SessionHash, TenantId, UserId
from stepup.domain.audit import Event, EventKind
from stepup.domain.changes import PolicyChanged
from stepup.domain.enrollment import PendingEnrollment
from stepup.domain.errors import StoreUnavailableError
from stepup.domain.person import EndedBy, PastAuthenticator
from stepup.domain.policy import Policy
from stepup.domain.receipts import Redemption
from stepup.domain.totp import Label, TotpSecret
from stepup.stores.sql import (
    Limits,
    SchemaRevisionError,
    SqlDatabase,
    check_schema,
    downgrade,
    fold_ids,
    upgrade,
)
from stepup.stores.sql.engine import parse_url, write_engine
from stepup.stores.sql.migrations import DIRECTORY, REVISIONS
from stepup.stores.sql.tables import audit_checkpoints, event_clients, metadata

NOW = datetime(2026, 3, 1, tzinfo=UTC)


async def on(url, work):
    engine = write_engine(parse_url(url), Limits())
    async with engine.begin() as connection:
        found = await connection.run_sync(work)
    await engine.dispose()
    return found


async def tables(url):
    return set(await on(url, lambda connection: inspect(connection).get_table_names()))


def test_the_files_of_the_revisions_have_the_order_in_which_alembic_runs_them():
    scripts = ScriptDirectory(str(DIRECTORY)).walk_revisions()
    assert [script.revision for script in scripts] == list(reversed(REVISIONS))


async def mark(url, revision):
    statement = text("UPDATE alembic_version SET version_num = :revision")
    await on(url, lambda connection: connection.execute(statement, {"revision": revision}))


async def toggle(url, position=None):
    database = SqlDatabase(url)
    key = (TenantId("acme"), UserId("alice"))
    async with database.transaction() as records:
        if position is not None:
            await records.accounts.set_mfa_enabled(*key, position)
        found = await records.accounts.mfa_enabled(*key)
    await database.close()
    return found


async def test_the_migrations_make_the_tables_that_the_code_knows(url):
    def differences(connection):
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return compare_metadata(context, metadata)

    assert await on(url, differences) == []


async def test_down_to_the_base_nothing_is_left(url):
    await downgrade(url, "base")
    assert await tables(url) <= {"alembic_version", "sqlite_sequence"}


async def test_an_upgrade_keeps_the_data(url):
    await toggle(url, position=True)
    await upgrade(url)
    assert await toggle(url) is True


async def sizes(url):
    """How many rows each table has."""

    def count(connection):
        return {
            name: connection.scalar(select(func.count()).select_from(table))
            for name, table in metadata.tables.items()
        }

    return await on(url, count)


async def fill(url):
    """Put something into every table."""
    database = SqlDatabase(url)
    ring, secret = fresh_ring(), TotpSecret(bytes(20))
    place = (TenantId("acme"), UserId("alice"))
    await store_enrolled(database, ring, place[0], {"alice": secret}, NOW)
    wizard = PendingEnrollment(
        *place,
        SessionHash("a" * 32),
        "enrollment-2",
        ring.seal(secret, *place, "enrollment-2"),
        Label("alice"),
        NOW,
    )
    event = Event(
        tenant_id=place[0],
        kind=EventKind.OTP_VERIFIED,
        occurred_at=NOW,
        caller=CallerId("console"),
        actor_user_id=place[1],
    )
    async with database.transaction() as records:
        await records.pending.replace(wizard)
        await records.policies.save(Policy(place[0], version=1, updated_at=NOW))
        await records.changes.announce(PolicyChanged(place[0], 1), NOW)
        await records.accounts.set_mfa_enabled(*place, enabled=True)
        await records.redemptions.redeem(place[0], uuid4(), Redemption(uuid4(), NOW), NOW)
        await records.audit.append(event)
        await records.past.remember(*place, PastAuthenticator(NOW, EndedBy.OPERATOR))
    await fold_ids(url, ring)
    async with database.transaction() as records:  # folding deletes challenges and asked people
        await records.challenges.add(challenge_of(person()))
        await records.asked.note(place[0], {UserId("bob"): NOW}, 1)
    await database.close()
    # What the audit trail keeps beside its events.
    place = {"tenant_id": "acme", "sequence": 1}
    for table, values in (
        (event_clients, {"user_id": "alice", "occurred_at": NOW, "salt": b"salt"}),
        (audit_checkpoints, {"hash": bytes(32), "pruned_at": NOW, "signature": b"signature"}),
    ):
        texts = {column.name: "" for column in table.c if isinstance(column.type, String)}
        row = insert(table).values({**texts, **place, **values})
        await on(url, lambda connection, row=row: connection.execute(row))
    assert all((await sizes(url)).values())


async def test_with_data_everywhere_it_goes_down_and_up_again(url):
    await fill(url)
    await downgrade(url, "base")
    await upgrade(url)
    assert not any((await sizes(url)).values())
    await fill(url)


async def test_what_fails_in_the_middle_has_changed_nothing(url, monkeypatch):
    await fill(url)
    before = await sizes(url)

    drop = op.drop_table

    def drop_all_but_the_last(table):
        if table == "authenticators":
            raise RuntimeError
        drop(table)

    monkeypatch.setattr(op, "drop_table", drop_all_but_the_last)
    with pytest.raises(StoreUnavailableError):
        await downgrade(url, "base")
    monkeypatch.undo()
    assert await sizes(url) == before
    await check_schema(url)


async def test_several_processes_may_upgrade_at_once(empty_url):
    await asyncio.gather(*(upgrade(empty_url) for _ in range(4)))
    await check_schema(empty_url)


async def test_an_empty_database_is_refused(url):
    await downgrade(url, "base")
    with pytest.raises(SchemaRevisionError, match="has no schema of stepup: run `stepup migrate`"):
        await check_schema(url)


async def test_a_newer_schema_is_refused(url):
    await mark(url, "9999")
    with pytest.raises(
        SchemaRevisionError, match=r"of revision 9999, .*: it is of another version"
    ):
        await check_schema(url)


@pytest.mark.parametrize("move", [upgrade, lambda url: downgrade(url, "base")])
async def test_a_newer_schema_is_left_alone(url, move):
    before = await tables(url)
    await mark(url, "9999")
    with pytest.raises(SchemaRevisionError):
        await move(url)
    assert await tables(url) == before


async def test_a_revision_that_does_not_exist_is_refused(url):
    with pytest.raises(SchemaRevisionError):
        await upgrade(url, "9999")


async def test_a_missing_file_is_not_made_by_a_check(sqlite_path):
    with pytest.raises(StoreUnavailableError):
        await check_schema(f"sqlite:///{sqlite_path}")
    assert not sqlite_path.exists()


async def test_a_new_file_is_its_owners_only(sqlite, sqlite_path):
    await check_schema(sqlite)
    assert sqlite_path.stat().st_mode & 0o777 == 0o600


async def test_a_check_of_the_schema_waits_for_no_writer_of_sqlite(sqlite_path):
    url = f"sqlite:///{sqlite_path}"
    await upgrade(url)
    with closing(sqlite3.connect(sqlite_path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        await check_schema(url, Limits(lock=timedelta()))


async def test_the_file_is_in_the_mode_that_survives_power_loss(sqlite):
    def settings(connection):
        names = ("journal_mode", "synchronous", "foreign_keys")
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

    full = 2
    assert await on(sqlite, settings) == ["wal", full, 1]
