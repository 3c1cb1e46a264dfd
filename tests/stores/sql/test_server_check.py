"""Which servers of PostgreSQL are refused before anything is done, and that PgBouncer may pool
sessions."""

import asyncio
import re
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import uuid4

import pytest
from sqlalchemy import make_url
from stepup_tests.e2e.processes import PROGRAMS, run
from stepup_tests.e2e.sql import executed
from stepup_tests.pgbouncer import PROGRAM, pooled
from stepup_tests.postgres import new_database, run_alone
from typer.testing import CliRunner

from stepup.cli.main import app
from stepup.stores.sql import (
    Limits,
    SqlDatabase,
    UnusableServerError,
    check_schema,
    demand_usable_server,
    upgrade,
)
from stepup.stores.sql.engine import parse_url, read_engine, write_engine

needs_pgbouncer = pytest.mark.skipif(PROGRAM is None, reason="no pgbouncer: make .pgbouncer/stamp")
SETTINGS = (
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "default_transaction_read_only",
    "synchronous_commit",
)


@asynccontextmanager
async def database_of(postgres, options):
    """The URL of a database that is made with options of its own."""
    url, name = make_url(postgres), f"stepup_test_{uuid4().hex}"
    await run_alone(postgres, f"CREATE DATABASE {name} {options}")
    yield url.set(database=name).render_as_string(hide_password=False)
    await run_alone(postgres, f"DROP DATABASE {name} WITH (FORCE)")


async def in_force(engine):
    async with engine.connect() as connection:
        found = [(await connection.exec_driver_sql(f"SHOW {name}")).scalar() for name in SETTINGS]
    await engine.dispose()
    return found


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_a_database_that_is_not_utf_8_is_refused_and_stays_as_it_is(postgres, encoding):
    options = f"TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"
    async with database_of(postgres, options) as url:
        for use in (upgrade, check_schema):
            with pytest.raises(UnusableServerError, match=f"encoding {encoding}, .* UTF-8"):
                await use(url)
        assert not await executed(url, "SELECT 1 FROM pg_tables WHERE schemaname = 'public'")


@needs_pgbouncer
async def test_s2_behind_a_pooler_of_sessions_every_setting_is_in_force(postgres):
    async with new_database(postgres) as url:
        await run_alone(
            url, f'ALTER DATABASE "{make_url(url).database}" SET synchronous_commit = off'
        )
        with pooled(url, "session") as through:
            await upgrade(through)
            await check_schema(through)
            database = SqlDatabase(through)
            await asyncio.gather(*(database.check_writes() for _ in range(20)))
            await database.close()
            parsed = parse_url(through)
            writing, reading = write_engine(parsed, Limits()), read_engine(parsed, Limits())
            assert await in_force(writing) == ["3s", "2s", "10s", "off", "on"]
            assert await in_force(reading) == ["3s", "2s", "10s", "on", "off"]


@needs_pgbouncer
@pytest.mark.parametrize("mode", ["transaction", "statement"])
@pytest.mark.parametrize("round_robin", [0, 1])
async def test_s2_a_pooler_of_transactions_or_statements_is_refused(postgres, mode, round_robin):
    with pooled(postgres, mode, server_round_robin=round_robin) as url:
        async with AsyncExitStack() as stack:
            # Idle sessions, which it gives out in turn or the last used first.
            engines = [read_engine(parse_url(url), Limits()) for _ in range(3)]
            connections = [await stack.enter_async_context(engine.connect()) for engine in engines]
            slow = (each.exec_driver_sql("SELECT pg_sleep(0.05)") for each in connections)
            await asyncio.gather(*slow)
            with pytest.raises(UnusableServerError, match="pool_mode = session"):
                await demand_usable_server(url)
        for engine in engines:
            await engine.dispose()


SENTENCE = (
    r"stepup: storage.database_url: the database .* is behind a pooler that pools transactions"
)


@needs_pgbouncer
@pytest.mark.parametrize("command", [("migrate",), ("audit", "verify")])
def test_s2_a_command_refuses_a_pooler_of_transactions(postgres, monkeypatch, command):
    with pooled(postgres, "transaction") as url:
        monkeypatch.setenv("STEPUP_STORAGE__DATABASE_URL", url)
        refused = CliRunner().invoke(app, command)
    assert refused.exit_code == 2
    assert re.match(SENTENCE, refused.stderr)


@needs_pgbouncer
def test_s2_a_server_does_not_start_behind_a_pooler_of_transactions(postgres, tmp_path):
    with pooled(postgres, "transaction") as url:
        settings = {"STEPUP_STORAGE__DATABASE_URL": url}
        refused = run([PROGRAMS / "stepup", "serve", "--insecure"], tmp_path, settings)
    assert refused.returncode == 2
    [said] = refused.stderr.splitlines()
    assert re.match(SENTENCE, said)
