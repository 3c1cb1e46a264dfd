"""S14: what lets a role of PostgreSQL drop or rewrite audit events is found, and refused.

Each test changes roles in a transaction that is rolled back.
"""

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import NullPool, make_url, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import create_async_engine
from stepup_tests.e2e.processes import PROGRAMS, run
from stepup_tests.e2e.sql import executed
from stepup_tests.keys import fresh_ring
from stepup_tests.postgres import PostgresServer
from stepup_tests.roles import MIGRATES, SERVES, empty_database_with_roles
from structlog.testing import capture_logs

from stepup.domain.actor import CallerId, TenantId
from stepup.domain.audit import Event, EventKind
from stepup.domain.errors import StoreUnavailableError
from stepup.service.audit.prune import PRUNE, PruneAudit
from stepup.service.calls.context import HostContext
from stepup.settings import load
from stepup.stores.sql import (
    GrantError,
    SqlDatabase,
    audit_rights,
    check_schema,
    downgrade,
    upgrade,
)
from stepup.stores.sql.rights import excessive_rights, grant_to_server
from stepup.system.clock import SystemClock
from stepup.wiring.stores import open_stores

GROUP = "stepup_group"
POWERS = [
    ("ALTER DATABASE stepup OWNER TO {role}", "owns the database"),
    ("ALTER SCHEMA public OWNER TO {role}", "owns the schema"),
    ("ALTER TABLE audit_events OWNER TO {role}", "owns tables of stepup"),
    ("ALTER ROLE {role} SUPERUSER", "is a superuser"),
    ("ALTER ROLE {role} CREATEROLE", "may create roles"),
    ("ALTER ROLE {role} BYPASSRLS", "bypasses row-level security"),
    ("GRANT pg_write_all_data TO {role}", "writes all tables"),
    ("GRANT pg_execute_server_program TO {role}", "writes all tables, or files"),
    ("GRANT pg_read_server_files TO {role}", "writes all tables, or files"),
    ("GRANT pg_write_server_files TO {role}", "writes all tables, or files"),
]
GRANTS = [
    ("GRANT UPDATE (kind) ON audit_events TO {role}", "may change audit_events"),
    ("GRANT TRIGGER ON audit_events TO {role}", "may change audit_events"),
    ("GRANT DELETE ON audit_heads TO {role}", "may change audit_heads"),
    ("GRANT INSERT ON audit_checkpoints TO {role}", "may change audit_checkpoints"),
]


@pytest.fixture(scope="module")
def database():
    """The URL of the superuser, of a migrated database with both roles."""
    with PostgresServer() as server, empty_database_with_roles(server) as urls:
        asyncio.run(upgrade(urls.migrates, grant_to=SERVES))
        yield urls.admin


@pytest.fixture
async def connection(database):
    engine = create_async_engine(make_url(database), poolclass=NullPool)
    async with engine.connect() as connection:
        yield connection
        await connection.rollback()


@pytest.fixture
async def do(connection):
    """Executes a statement as the superuser."""

    async def do(statement):
        await connection.execute(text(statement))

    return do


@pytest.fixture
async def membership(do):
    """The role that serves is a member of a group, and inherits nothing of it."""
    await do(f"CREATE ROLE {GROUP}")
    await do(f"ALTER ROLE {SERVES} NOINHERIT")
    await do(f"GRANT {GROUP} TO {SERVES}")


async def found_by_the_server(connection):
    await connection.execute(text(f"SET LOCAL ROLE {SERVES}"))
    return await connection.run_sync(excessive_rights)


@pytest.mark.parametrize(("given", "reason"), POWERS)
async def test_s14_a_role_that_no_grant_limits_is_refused_by_saying_why(
    connection, do, given, reason
):
    await do(given.format(role=SERVES))
    with pytest.raises(GrantError, match=f"{SERVES} could drop or rewrite .* it .*{reason}"):
        await connection.run_sync(grant_to_server, SERVES)
    assert any(reason in found for found in await found_by_the_server(connection))


@pytest.mark.usefixtures("membership")
@pytest.mark.parametrize(("given", "reason"), POWERS + GRANTS)
async def test_s14_what_a_member_takes_by_set_role_counts_though_it_inherits_nothing(
    connection, do, given, reason
):
    await do(given.format(role=GROUP))
    with pytest.raises(GrantError, match=f"it is a member of .*, which {reason}"):
        await connection.run_sync(grant_to_server, SERVES)
    assert any(reason in found for found in await found_by_the_server(connection))


@pytest.mark.usefixtures("membership")
async def test_a_group_with_other_rights_is_no_reason(connection, do):
    await do(f"GRANT SELECT, INSERT ON audit_events TO {GROUP}")
    await do(f"GRANT pg_read_all_data, pg_monitor TO {GROUP}")
    await connection.run_sync(grant_to_server, SERVES)
    assert await found_by_the_server(connection) == []


@pytest.mark.parametrize(("role", "is_warned_of"), [("postgres", True), (SERVES, False)])
async def test_s14_a_server_warns_of_what_its_own_role_could_do(
    database, tmp_path, role, is_warned_of
):
    url = make_url(database).set(username=role).render_as_string()
    redis = f"unix://{tmp_path}/redis.sock"  # nobody is there: a server may start before it
    storage = {"data_dir": tmp_path, "database_url": url, "redis_url": redis}
    with capture_logs() as lines:
        async with AsyncExitStack() as stack:
            await open_stores(load(storage=storage), SystemClock(), None, stack)
    warnings = [line["explanation"] for line in lines if line["log_level"] == "warning"]
    assert [("the role of this server is a superuser" in each) for each in warnings] == (
        [True] * is_warned_of
    )


@pytest.fixture(scope="module")
def postgresql():
    with PostgresServer() as server:
        yield server


@pytest.fixture
def urls(postgresql):
    with empty_database_with_roles(postgresql) as urls:
        yield urls


@pytest.fixture
async def as_server(urls):
    """The URL of the role that serves, on a schema that the other one has migrated."""
    _, migrates, serves = urls
    await upgrade(migrates, grant_to=SERVES)
    return serves


async def rights(url):
    found = await executed(
        url,
        "SELECT table_name, privilege_type FROM information_schema.role_table_grants"
        " WHERE grantee = :role",
        role=SERVES,
    )
    by_table = {}
    for table, right in found:
        by_table.setdefault(table, set()).add(right)
    return by_table


async def test_s14_the_role_that_serves_has_the_least_rights_on_every_table(urls, as_server):
    everything = {"SELECT", "INSERT", "UPDATE", "DELETE"}
    less = {
        "audit_events": {"SELECT", "INSERT"},
        "audit_heads": {"SELECT", "INSERT", "UPDATE"},
        "audit_checkpoints": {"SELECT"},
        "alembic_version": {"SELECT"},
    }
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    names = {name for (name,) in await executed(urls[0], tables)}
    assert names > set(less)
    assert await rights(urls[0]) == {name: less.get(name, everything) for name in names}
    await check_schema(as_server)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_events SET kind = 'otp_verified'",
        "DELETE FROM audit_events",
        "TRUNCATE audit_events",
        "SELECT 1 FROM audit_events FOR UPDATE",
        "DELETE FROM audit_heads",
        "DELETE FROM audit_checkpoints",
        "INSERT INTO audit_checkpoints VALUES ('acme', 1, '', now(), 'k', '')",
        "UPDATE audit_checkpoints SET sequence = 1",
        "TRUNCATE audit_heads",
        "TRUNCATE policies CASCADE",
        "UPDATE alembic_version SET version_num = '0000'",
        "DELETE FROM alembic_version",
        "DROP TABLE audit_events",
        "ALTER TABLE audit_events DISABLE TRIGGER ALL",
        "ALTER TABLE policies ADD COLUMN more varchar",
        "CREATE TABLE more (id integer)",
        "CREATE TEMPORARY TABLE more (id integer)",
        "CREATE SCHEMA more",
        "CREATE INDEX more ON policies (version)",
        "CREATE RULE more AS ON INSERT TO audit_events DO INSTEAD NOTHING",
        f"SET ROLE {MIGRATES}",
    ],
)
async def test_s14_what_the_role_that_serves_cannot_do(as_server, statement):
    with pytest.raises(ProgrammingError, match=r"denied|must be owner|InsufficientPrivilege"):
        await executed(as_server, statement)


async def test_s14_only_the_role_that_migrates_prunes(urls, as_server):
    _, migrates, _ = urls
    now = datetime.now(UTC)
    for url, deletes in ((as_server, False), (migrates, True)):
        database = SqlDatabase(url)
        async with database.transaction() as records:
            for _ in range(2):
                event = Event(TenantId("acme"), EventKind.OTP_VERIFIED, now, CallerId("c"), None)
                await records.audit.append(event)
        later = now + timedelta(seconds=1)
        context = HostContext(PRUNE, TenantId("acme"), later, "sam", "host-1")
        prune = PruneAudit(database, fresh_ring())
        if deletes:
            assert await prune(context, later) == 3
        else:
            with pytest.raises(StoreUnavailableError):
                await prune(context, later)
        await database.close()


async def test_s14_the_role_that_serves_grants_itself_nothing(urls, as_server):
    before = await rights(urls[0])
    await executed(as_server, f"GRANT UPDATE, DELETE, TRUNCATE ON audit_events TO {SERVES}")
    assert await rights(urls[0]) == before


async def test_a_table_of_a_later_revision_is_granted_and_what_was_too_much_is_revoked(urls):
    admin, migrates, serves = urls
    await upgrade(migrates, grant_to=SERVES)
    await executed(migrates, "CREATE TABLE later (id bigint GENERATED BY DEFAULT AS IDENTITY)")
    await executed(migrates, f"GRANT ALL ON audit_events TO {SERVES}")
    await upgrade(migrates, grant_to=SERVES)
    await executed(serves, "INSERT INTO later DEFAULT VALUES")
    assert (await rights(admin))["audit_events"] == {"SELECT", "INSERT"}
    await executed(migrates, "DROP TABLE later")
    await downgrade(migrates, "base")


async def test_a_table_of_somebody_else_in_the_schema_is_left_alone(urls):
    admin, migrates, _ = urls
    await executed(admin, "CREATE TABLE foreign_to_us (id integer)")
    await upgrade(migrates, grant_to=SERVES)
    assert "foreign_to_us" not in await rights(admin)


@pytest.mark.parametrize(
    ("role", "problem"),
    [
        ("nobody_of_this_name", "no role nobody_of_this_name"),
        ("postgres", "postgres could drop .*: it is a superuser;"),
        (MIGRATES, "it owns tables of stepup"),
    ],
)
async def test_a_role_that_cannot_be_limited_is_refused_and_nothing_is_migrated(
    urls, role, problem
):
    admin, migrates, _ = urls
    with pytest.raises(GrantError, match=problem):
        await upgrade(migrates, grant_to=role)
    assert not await executed(admin, "SELECT 1 FROM pg_tables WHERE schemaname = 'public'")


async def test_s14_a_grant_to_public_is_refused(urls):
    admin, migrates, serves = urls
    await upgrade(migrates, grant_to=SERVES)
    assert await audit_rights(serves) == []
    await executed(admin, "GRANT DELETE ON audit_events TO PUBLIC")
    with pytest.raises(GrantError, match="could still rewrite audit events: it may change"):
        await upgrade(migrates, grant_to=SERVES)
    assert await audit_rights(serves) == ["may change audit_events"]


async def test_sqlite_has_no_roles(tmp_path):
    with pytest.raises(GrantError, match="only PostgreSQL"):
        await upgrade(f"sqlite:///{tmp_path / 'stepup.db'}", grant_to=SERVES)


async def test_the_role_that_serves_does_not_migrate_when_it_starts(urls, tmp_path):
    _, migrates, serves = urls
    await upgrade(migrates, grant_to=SERVES)
    await downgrade(migrates, "base")
    settings = {"STEPUP_STORAGE__DATABASE_URL": serves}
    refused = run([PROGRAMS / "stepup", "serve", "--insecure"], tmp_path, settings)
    assert refused.returncode == 2
    assert "run `stepup migrate`" in refused.stderr
