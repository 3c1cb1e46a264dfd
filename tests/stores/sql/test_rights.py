"""S14: what lets a role of PostgreSQL drop or rewrite audit events is found, and refused.

Each test changes roles in a transaction that is rolled back.
"""

import asyncio
from contextlib import AsyncExitStack

import pytest
from sqlalchemy import NullPool, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from stepup_tests.postgres import PostgresServer
from stepup_tests.roles import SERVES, empty_database_with_roles
from structlog.testing import capture_logs

from stepup.settings import load
from stepup.stores.sql import GrantError, upgrade
from stepup.stores.sql.grants import grant_to_server
from stepup.stores.sql.rights import excessive_rights
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
