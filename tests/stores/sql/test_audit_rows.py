"""The promises of `StoredChains`: every row is read, and told apart from what was written (S14)."""

import asyncio
import shutil
import sqlite3
from contextlib import closing, contextmanager
from datetime import UTC, datetime

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from stepup_tests.keys import fresh_ring

from stepup.domain.actor import CallerId, Device, TenantId, UserId
from stepup.domain.audit import Event, EventKind
from stepup.domain.chain import Damage
from stepup.service.audit.verification import PAGE, AuditVerification
from stepup.service.ports import ChainPosition
from stepup.stores.sql import Limits, SqlDatabase, upgrade
from stepup.stores.sql.engine import parse_url, write_engine

NOW = datetime(2026, 3, 1, 12, 0, 0, 123457, tzinfo=UTC)
ACME, GLOBEX = TenantId("acme"), TenantId("globex")
EVENT_COLUMNS = {
    "tenant_id": "TEXT",
    "sequence": "INTEGER",
    "event_id": "TEXT",
    "kind": "TEXT",
    "occurred_at": "TEXT",
    "caller": "TEXT",
    "actor_user_id": "TEXT",
    "subject_user_id": "TEXT",
    "details": "TEXT",
    "previous_hash": "BLOB",
    "hash": "BLOB",
}
HEAD_COLUMNS = {"tenant_id": "TEXT", "sequence": "INTEGER", "hash": "BLOB"}
EVENTS_EACH = 3
NOT_ITS_DEVICE = "the device is not the one of the event"
NO_EVENT = "there is a device without its event"
FIRST = ChainPosition()


async def append(database, tenant, number=EVENTS_EACH, client=None):
    appended = []
    async with database.transaction() as records:
        for _ in range(number):
            event = Event(
                tenant,
                EventKind.POLICY_CHANGED,
                NOW,
                CallerId("console"),
                UserId("ada"),
                UserId("bob"),
                {"session": "5e55", "reason": "Zo\u00eb", "of": [1.5, None, {"b": 1, "a": -0.0}]},
                client=client,
            )
            appended.append(await records.audit.append(event))
    return appended


async def stored(database, tenant=ACME, place=FIRST, limit=100):
    async with database.snapshot() as records:
        return await records.audit.stored(tenant, place, limit)


async def tenants(database):
    found = [None]
    async with database.snapshot() as records:
        while (tenant := await records.audit.next_tenant(found[-1])) is not None:
            found.append(tenant)
    return found[1:]


async def head(database, tenant=ACME):
    async with database.snapshot() as records:
        return await records.audit.head(tenant)


async def damages(database, exported=None):
    verification = AuditVerification(database, fresh_ring(), exported or {})
    return [damage async for damage in verification.of_all()]


async def run_sql(url, *statements):
    """Change rows past the service."""
    engine = write_engine(parse_url(url), Limits())
    async with engine.begin() as connection:
        for statement in statements:
            await connection.execute(text(statement))
    await engine.dispose()


async def test_rows_come_page_by_page(database):
    appended = await append(database, ACME, 5)
    assert await stored(database, limit=2) == appended[:2]
    assert await stored(database, place=ChainPosition(2, 1), limit=2) == appended[2:4]
    assert await stored(database, place=ChainPosition(5, 1)) == []


async def test_a_place_counts_the_rows_of_its_number(database):
    appended = await append(database, ACME)
    assert await stored(database, place=ChainPosition(2, 0)) == appended[1:]


async def test_tenants_come_one_after_the_other_each_once(database):
    names = [TenantId(name) for name in ("b", "B", "a", "a b", "~", "0", "bb")]
    for name in names:
        await append(database, name, 1)
    found = await tenants(database)
    assert sorted(found) == sorted(names)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit_events SET actor_user_id = 'mallory' WHERE {row}",
        "UPDATE audit_events SET subject_user_id = NULL WHERE {row}",
        "UPDATE audit_events SET kind = 'no_such_kind' WHERE {row}",
        "UPDATE audit_events SET details = 'no json' WHERE {row}",
        "UPDATE audit_events SET details = '[1]' WHERE {row}",
        "UPDATE audit_events SET details = details || ' ' WHERE {row}",
        "UPDATE audit_events SET occurred_at = '2026-03-01 12:00:00.123458+00' WHERE {row}",
        "UPDATE audit_events SET tenant_id = 'nobody' WHERE {row}",
        "UPDATE audit_events SET sequence = 9 WHERE {row}",
        "DELETE FROM audit_events WHERE {row}",
    ],
)
async def test_s14_an_alteration_is_named(database, url, change):
    await append(database, ACME)
    await append(database, GLOBEX)
    await run_sql(url, change.format(row="tenant_id = 'acme' AND sequence = 2"))
    found = await damages(database)
    assert ("acme", 2) in [(damage.tenant, damage.sequence) for damage in found]
    assert "globex" not in {damage.tenant for damage in found}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("UPDATE audit_heads SET sequence = 9", "events 4 to 9 are missing at the end"),
        ("UPDATE audit_heads SET sequence = 2", "the head of the chain is at 2"),
        ("UPDATE audit_heads SET hash = previous_hash FROM audit_events",
         "the head of the chain has another hash"),
        ("DELETE FROM audit_heads", "the head of the chain is gone"),
        ("DELETE FROM audit_events", "events 1 to 3 are missing at the end"),
        ("DELETE FROM audit_events WHERE sequence = 3", "event 3 is missing at the end"),
    ],
)  # fmt: skip
async def test_s14_a_head_that_disagrees_is_named(database, url, change, problem):
    await append(database, ACME)
    await run_sql(url, change)
    assert [(damage.tenant, damage.problem) for damage in await damages(database)] == [
        ("acme", problem)
    ]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("SELECT 1", None),
        ("DELETE FROM event_clients WHERE sequence = 2", None),
        ("UPDATE event_clients SET address = '192.0.2.8' WHERE sequence = 2", NOT_ITS_DEVICE),
        ("UPDATE event_clients SET user_agent = '' WHERE sequence = 2", NOT_ITS_DEVICE),
        ("UPDATE event_clients SET user_id = 'eve' WHERE sequence = 2", NOT_ITS_DEVICE),
        (
            "UPDATE event_clients SET occurred_at = '2026-03-01 12:00:00.000001' WHERE sequence=2",
            NOT_ITS_DEVICE,
        ),
        ("UPDATE event_clients SET sequence = 9 WHERE sequence = 2", NO_EVENT),
        ("UPDATE event_clients SET tenant_id = 'nobody' WHERE sequence = 2", NO_EVENT),
        ("DELETE FROM audit_events WHERE sequence = 2", NO_EVENT),
        ("UPDATE audit_events SET kind = 'no_kind' WHERE sequence = 2", "kind is not as it was"),
    ],
)
async def test_s14_a_device_is_compared_with_its_event(database, url, change, found):
    await append(database, ACME, client=Device("192.0.2.7", "Firefox"))
    await run_sql(url, change)
    problems = [damage.problem for damage in await damages(database)]
    assert not problems if found is None else any(found in problem for problem in problems)


async def test_s14_the_devices_of_a_long_chain_are_read_page_by_page(database, url):
    await append(database, ACME, PAGE + 1, client=Device("192.0.2.7"))
    await run_sql(url, "UPDATE event_clients SET sequence = 1000 + sequence")
    assert len(await damages(database)) == PAGE + 1


async def test_s14_two_rows_of_one_number_are_named_also_across_pages(database, url):
    await append(database, ACME)
    await without_keys(url)
    await run_sql(
        url,
        "INSERT INTO audit_events SELECT * FROM audit_events WHERE sequence = 2",
        "INSERT INTO audit_heads SELECT * FROM audit_heads",
    )
    first = await stored(database, limit=2)
    rest = await stored(database, place=ChainPosition(2, 1))
    assert [row.sequence for row in (*first, *rest)] == [1, 2, 2, 3]
    assert await damages(database) == [
        Damage("acme", 2, "there are two events of this number"),
        Damage("acme", 3, "the head of the chain: there are two"),
    ]


async def without_keys(url):
    """Take the primary keys away, as whoever may write to the schema can."""
    for table in ("audit_events", "audit_heads"):
        await run_sql(
            url,
            f"CREATE TABLE copy AS SELECT * FROM {table}",  # noqa: S608
            f"DROP TABLE {table}",
            f"ALTER TABLE copy RENAME TO {table}",
        )


async def two_chains(url):
    database = SqlDatabase(url)
    for tenant in (ACME, GLOBEX):
        await append(database, tenant, client=Device("192.0.2.7", "Firefox"))
    await database.close()


async def damages_at(url):
    database = SqlDatabase(url)
    found = await damages(database)
    await database.close()
    return found


@pytest.fixture
async def altered(sqlite, sqlite_path):
    """Sets a column in one row of two chains, and tells what is found then."""
    await two_chains(sqlite)

    async def alter(column, value, sequence=2, table="audit_events"):
        with closing(sqlite3.connect(sqlite_path)) as connection, connection:
            connection.execute(
                f"UPDATE {table} SET {column} = {value}"  # noqa: S608  # a test's own words
                f" WHERE tenant_id = 'acme' AND sequence = {sequence}"
            )
        return await damages_at(sqlite)

    return alter


async def test_s14_bytes_that_are_no_text_are_read(altered):
    found = await altered("caller", "CAST(x'ff00fe' AS TEXT)")
    assert found == [Damage("acme", 2, "caller is not as it was written")]


@pytest.mark.parametrize(
    "value", ["x'636f6e736f6c65'", "7.5", "CAST(x'' AS TEXT)", "'console' || char(0)"]
)
async def test_s14_a_value_of_another_type_or_form_is_found(altered, value):
    found = await altered("caller", value)
    assert [(damage.tenant, damage.sequence) for damage in found] == [("acme", 2)]


async def test_s14_a_device_of_another_form_is_found(altered):
    found = await altered("user_agent", "CAST(x'ff' AS TEXT)", table="event_clients")
    assert found == [
        Damage("acme", 2, "the device of the event: user_agent is not as it was written")
    ]


async def test_s14_a_device_without_a_number_is_found(altered):
    found = await altered("sequence", "'two'", table="event_clients")
    assert [(damage.tenant, damage.sequence) for damage in found] == [("acme", None)]


@pytest.mark.parametrize("number", ["'two'", "2.5", "x'32'", "CAST(x'ff' AS TEXT)"])
async def test_s14_a_number_of_another_type_is_found(altered, number):
    found = await altered("sequence", number)
    assert ("acme", 2) in [(damage.tenant, damage.sequence) for damage in found]


async def test_s14_a_row_that_was_added_with_no_number_is_found(sqlite):
    await two_chains(sqlite)
    await run_sql(
        sqlite,
        "INSERT INTO audit_events SELECT tenant_id, 'x', event_id, kind, occurred_at, caller,"
        " actor_user_id, subject_user_id, details, previous_hash, hash FROM audit_events"
        " WHERE sequence = 1 AND tenant_id = 'acme'",
    )
    found = await damages_at(sqlite)
    assert [(damage.tenant, damage.sequence) for damage in found] == [("acme", None)]


@pytest.mark.parametrize("table", ["audit_events", "audit_heads", "event_clients"])
async def test_s14_a_tenant_that_is_no_text_is_found(altered, table):
    found = await altered("tenant_id", "x'61ff'", 3, table)
    assert Damage("a\udcff", 3, "the row belongs to no tenant") in found


@pytest.mark.parametrize(
    ("value", "tenant"),
    [
        ("CAST(x'ff61' AS TEXT)", "\udcffa"),
        ("'caf' || char(233)", "caf\udcc3\udca9"),
        ("char(0)", "\0"),
        ("''", ""),
    ],
)
async def test_s14_a_tenant_that_cannot_be_is_found(altered, value, tenant):
    found = await altered("tenant_id", value, 3)
    assert Damage("acme", 3, "event 3 is missing at the end") in found
    assert Damage(tenant, 3, "tenant_id is not as it was written") in found


@pytest.mark.parametrize(
    "details",
    [
        '{"a":' * 500 + "1" + "}" * 500,
        "[" * 100_000,
        '{"a":1,"a":1}',
        '{"a": 1}',
        '{"b":1,"a":1}',
        '{"a":1e999}',
        '{"a":' + "9" * 5000 + "}",
        "\ufeff{}",
        "null",
        "",
    ],
    ids=lambda text: text[:20],
)
async def test_s14_details_that_were_never_written_so_are_found(altered, details):
    found = await altered("details", f"'{details}'")
    assert {(damage.tenant, damage.sequence) for damage in found} == {("acme", 2)}


@pytest.fixture(scope="module")
def chains(tmp_path_factory):
    """A database with two chains, to be copied."""
    path = tmp_path_factory.mktemp("chains") / "state.db"

    async def make():
        await upgrade(f"sqlite:///{path}")
        await two_chains(f"sqlite:///{path}")

    asyncio.run(make())
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


COLUMNS = [
    *(("audit_events", column, kind) for column, kind in EVENT_COLUMNS.items()),
    *(("audit_heads", column, kind) for column, kind in HEAD_COLUMNS.items()),
]


@contextmanager
def copy_of(chains, tmp_path_factory):
    path = tmp_path_factory.mktemp("altered") / "state.db"
    shutil.copy(chains, path)
    yield path
    shutil.rmtree(path.parent)


def flipped(octets, place, flip):
    return octets[:place] + bytes([octets[place] ^ flip]) + octets[place + 1 :]


@given(
    row=st.tuples(st.sampled_from([ACME, GLOBEX]), st.integers(1, EVENTS_EACH)),
    column=st.sampled_from(COLUMNS),
    place=st.integers(0, 1000),
    flip=st.integers(1, 255),
)
def test_s14_any_altered_byte_of_any_column_of_any_row_is_found_and_its_row_is_named(
    chains, tmp_path_factory, *, row, column, place, flip
):
    (tenant, sequence), (table, name, kind) = row, column
    if table == "audit_heads":
        sequence = EVENTS_EACH
    with copy_of(chains, tmp_path_factory) as path:
        with closing(sqlite3.connect(path)) as connection, connection:
            where = f"WHERE tenant_id = '{tenant}' AND sequence = {sequence}"
            [[octets]] = connection.execute(f"SELECT CAST({name} AS BLOB) FROM {table} {where}")  # noqa: S608
            value = "?" if kind == "BLOB" else "CAST(? AS TEXT)"
            try:
                connection.execute(
                    f"UPDATE {table} SET {name} = {value} {where}",  # noqa: S608
                    [flipped(octets, place % len(octets), flip)],
                )
            except sqlite3.IntegrityError:
                assume(False)  # SQLite itself sees to it that a key stands once
        found = asyncio.run(damages_at(f"sqlite:///{path}"))
    named = {(damage.tenant, damage.sequence) for damage in found}
    assert named & {(tenant, number) for number in (sequence - 1, sequence, sequence + 1)}


@settings(max_examples=settings.default.max_examples // 2)
@given(place=st.integers(0, 1000), flip=st.integers(1, 255))
def test_s14_any_altered_byte_of_a_row_in_the_file_is_found_and_the_row_is_named(
    chains, tmp_path_factory, place, flip
):
    """Who alters the file itself does not see to the indices: they still find the row."""
    with closing(sqlite3.connect(chains)) as connection:
        [[event_id, end]] = connection.execute(
            "SELECT event_id, hash FROM audit_events WHERE tenant_id = 'acme' AND sequence = 2"
        )
    octets = chains.read_bytes()
    first = octets.index(b"acme\x02" + event_id.encode())
    size = octets.index(end, first) + len(end) - first
    with copy_of(chains, tmp_path_factory) as path:
        path.write_bytes(flipped(octets, first + place % size, flip))
        found = asyncio.run(damages_at(f"sqlite:///{path}"))
    assert ("acme", 2) in {(damage.tenant, damage.sequence) for damage in found}
