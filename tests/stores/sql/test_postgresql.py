"""PostgreSQL under its limits, lost in every way, and regained (S17)."""

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from stepup_tests.postgres import SETTINGS, PostgresServer, new_database, run_alone

from stepup.domain.actor import CallerId, Device, TenantId, UserId
from stepup.domain.audit import Event, EventKind
from stepup.domain.chain import Checkpoint
from stepup.domain.errors import ConflictError, StoreUnavailableError
from stepup.stores.sql import Limits, SqlDatabase, upgrade
from stepup.stores.sql.engine import parse_url, write_engine

ACME = TenantId("acme")
ALICE = UserId("alice")
BOB = UserId("bob")
LONG = timedelta(seconds=60)
SHORT = timedelta(milliseconds=100)
PATIENT = Limits.lasting(LONG, connections=2)


@pytest.fixture(scope="module")
def backend(postgres, postgres_template):
    """No SQLite here."""
    return postgres, postgres_template


async def read(database, user=ALICE):
    async with database.snapshot() as records:
        return await records.accounts.mfa_enabled(ACME, user)


async def write(database, user=ALICE):
    async with database.transaction() as records:
        await records.accounts.set_mfa_enabled(ACME, user, enabled=True)


@asynccontextmanager
async def opened(url, limits=PATIENT):
    database = SqlDatabase(url, limits)
    try:
        yield database
    finally:
        await database.close()


@pytest.fixture
async def execute(url):
    """Runs statements as an operator would, on a connection of their own that stays open."""
    engine = create_async_engine(make_url(url), isolation_level="AUTOCOMMIT")

    async def executed(statement, **values):
        async with engine.connect() as connection:
            result = await connection.execute(text(statement), values)
            return result.all() if result.returns_rows else None

    yield executed
    await engine.dispose()


async def eventually(found):
    """What an awaitable finds, once it finds something."""
    async with asyncio.timeout(30):
        while True:
            if rows := await found():
                return rows
            await asyncio.sleep(0.01)


def sqlstate(raised):
    return raised.value.__cause__.orig.sqlstate


async def test_a_statement_that_is_too_slow_is_given_up(url, execute):
    await execute(
        "CREATE FUNCTION crawl() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN PERFORM pg_sleep(60); RETURN NEW; END'"
    )
    await execute("CREATE TRIGGER crawl BEFORE INSERT ON accounts EXECUTE FUNCTION crawl()")
    async with opened(url, replace(PATIENT, statement=SHORT)) as database:
        with pytest.raises(StoreUnavailableError) as raised:
            await write(database)
        assert sqlstate(raised) == "57014"  # query_canceled: the server's work has ended
        await execute("DROP TRIGGER crawl ON accounts")
        await write(database)
        assert await read(database) is True


async def test_a_lock_is_not_waited_for_too_long(url):
    async with (
        opened(url) as database,
        opened(url, replace(PATIENT, lock=SHORT)) as impatient,
    ):
        async with database.transaction() as records:
            await records.accounts.set_mfa_enabled(ACME, ALICE, enabled=True)
            with pytest.raises(StoreUnavailableError) as raised:
                await write(impatient)
        assert sqlstate(raised) == "55P03"  # lock_not_available
        await write(impatient)


async def test_there_are_no_more_connections_than_the_limit(url, execute):
    async with opened(url) as database:
        users = [UserId(f"user-{number}") for number in range(30)]
        await asyncio.gather(*(write(database, user) for user in users))
        await asyncio.gather(*(read(database, user) for user in users))
        ours = "SELECT pid FROM pg_stat_activity WHERE application_name = 'stepup'"
        in_database = " AND datname = current_database()"
        assert len(await execute(ours + in_database)) == 2 * PATIENT.connections


async def waiting(execute):
    """The one statement of ours that waits for a lock."""
    [(pid,)] = await eventually(
        lambda: execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'stepup'"
            " AND datname = current_database() AND wait_event_type = 'Lock'"
        )
    )
    return pid


async def terminate(execute, pid):
    assert await execute("SELECT pg_terminate_backend(:pid, 10000)", pid=pid) == [(True,)]


async def test_the_first_statement_of_a_lost_connection_is_run_on_another(url, execute):
    async with opened(url) as database:
        async with database.transaction() as records:
            await records.accounts.set_mfa_enabled(ACME, ALICE, enabled=True)
            writing = asyncio.create_task(write(database))
            lost = await waiting(execute)
            await terminate(execute, lost)
            assert await waiting(execute) != lost
        await writing
        assert await read(database) is True


async def test_what_follows_the_first_statement_is_not_run_on_another(url, execute):
    async def write_two(database):
        async with database.transaction() as records:
            await records.accounts.set_mfa_enabled(ACME, BOB, enabled=True)
            await records.accounts.set_mfa_enabled(ACME, ALICE, enabled=True)

    async with opened(url) as database:
        async with database.transaction() as records:
            await records.accounts.set_mfa_enabled(ACME, ALICE, enabled=True)
            writing = asyncio.create_task(write_two(database))
            await terminate(execute, await waiting(execute))
        with pytest.raises(StoreUnavailableError):
            await writing
        assert await read(database, BOB) is False


async def test_a_deadlock_is_a_conflict_and_one_of_the_two_goes_on(url, execute):
    await execute("INSERT INTO accounts VALUES ('acme', 'alice', true), ('acme', 'bob', true)")
    met = asyncio.Barrier(2)

    async def write_both(database, first, second):
        async with database.transaction() as records:
            await records.accounts.set_mfa_enabled(ACME, first, enabled=False)
            await met.wait()
            await records.accounts.set_mfa_enabled(ACME, second, enabled=False)

    async with opened(url) as database:
        ends = await asyncio.gather(
            write_both(database, ALICE, BOB),
            write_both(database, BOB, ALICE),
            return_exceptions=True,
        )
        assert sorted(type(end) for end in ends if end) == [ConflictError]
        assert await read(database) is False


async def test_a_server_that_became_read_only_is_used_again_when_it_writes(url, execute):
    name = make_url(url).database
    await execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    async with opened(url) as database:
        with pytest.raises(StoreUnavailableError) as raised:
            await write(database)
        assert sqlstate(raised) == "25006"  # read_only_sql_transaction
        assert await read(database) is False
        await execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        await write(database)


@pytest.fixture(scope="module")
def own_server():
    """A server to be killed."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
async def mortal(own_server):
    """It, and a database on it that is used already."""
    async with new_database(own_server.url()) as url:
        await upgrade(url)
        async with opened(url, Limits.lasting(timedelta(seconds=1), connections=2)) as database:
            await write(database)
            await read(database)
            yield own_server, database


@pytest.mark.parametrize("use", [read, write])
async def test_a_server_that_was_killed_is_unavailable_until_it_is_back(mortal, use):
    server, database = mortal
    server.kill()
    with pytest.raises(StoreUnavailableError):
        await use(database)
    server.start()
    await use(database)
    assert await read(database) is True


@pytest.mark.parametrize("use", [read, write])
async def test_a_server_that_hangs_keeps_nobody_waiting_for_long(mortal, use):
    server, database = mortal
    server.freeze()
    try:
        began = time.monotonic()
        ends = await asyncio.gather(*(use(database) for _ in range(6)), return_exceptions=True)
        lasted = time.monotonic() - began
    finally:
        server.thaw()
    assert {type(end) for end in ends} == {StoreUnavailableError}
    assert lasted < 15
    await use(database)


async def test_a_killed_backend_takes_what_is_under_way_with_it_and_no_more(mortal):
    server, database = mortal

    async def kill_in_the_middle():
        async with database.transaction() as records:
            await records.accounts.set_mfa_enabled(ACME, BOB, enabled=True)
            server.kill_backend("idle in transaction")

    with pytest.raises(StoreUnavailableError):
        await kill_in_the_middle()

    async def both():
        with suppress(StoreUnavailableError):  # every other connection was cut, too
            return await read(database), await read(database, BOB)

    assert await eventually(both) == (True, False)


async def test_a_standby_is_not_mistaken_for_the_primary(mortal):
    server, database = mortal
    server.kill()
    server.start_as_standby()
    for use in (read, write):
        with pytest.raises(StoreUnavailableError):
            await use(database)
    server.kill()
    server.start()
    await write(database)
    assert await read(database) is True


@pytest.mark.parametrize(
    ("configured", "used"),
    [
        ("off", "on"),
        ("local", "on"),
        ("remote_write", "on"),
        ("on", "on"),
        ("remote_apply", "remote_apply"),
    ],
)
async def test_s2_commits_wait_for_the_disk_and_for_no_less(postgres, configured, used):
    async with new_database(postgres) as url:
        await run_alone(
            url,
            f'ALTER DATABASE "{make_url(url).database}" SET synchronous_commit = {configured}',
        )
        engine = write_engine(parse_url(url), Limits())
        async with engine.connect() as connection:
            assert (await connection.exec_driver_sql("SHOW synchronous_commit")).scalar() == used
        await engine.dispose()


async def test_s2_s4_a_killed_server_that_does_not_wait_for_its_disk_forgets_nothing():
    """Otherwise a used code would be VERIFIED again, and wrong codes would not count."""
    settings = SETTINGS | {
        "synchronous_commit": "off",
        "fsync": "on",
        "wal_writer_delay": "10s",
        "wal_writer_flush_after": "0",
    }
    with PostgresServer(settings) as server:
        url = server.url()
        await upgrade(url)
        database = SqlDatabase(url)
        await write(database)
        server.kill()
        server.start()
        await database.close()
        async with opened(url) as restarted:
            assert await read(restarted)


async def test_s17_a_server_that_became_read_only_takes_no_writes_until_it_does(url, execute):
    name = make_url(url).database
    async with opened(url) as database:
        await database.check_writes()
    await execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    async with opened(url) as database:
        with pytest.raises(StoreUnavailableError):
            await database.check_writes()
        await execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        await database.check_writes()


async def test_a_prune_and_a_forgotten_user_wait_for_each_other(database):
    """Both delete devices of events and append an event: neither fails for a deadlock."""
    now = datetime(2026, 3, 1, tzinfo=UTC)
    device = Device("192.0.2.7")
    signed_in = Event(ACME, EventKind.OTP_VERIFIED, now, CallerId("x"), ALICE, client=device)
    async with database.transaction(ACME) as records:
        first = await records.audit.append(signed_in)
        await records.audit.append(replace(signed_in, event_id="second"))
    pruned, appended = asyncio.Event(), asyncio.Event()

    async def prune():
        async with database.transaction(ACME) as records:
            await records.audit.checkpoint_for_update(ACME)
            await records.audit.prune(Checkpoint(ACME, 1, first.hash, now, "key", b"signature"))
            pruned.set()
            with suppress(TimeoutError):
                await asyncio.wait_for(appended.wait(), SHORT.total_seconds())
            await records.audit.append(
                Event(ACME, EventKind.AUDIT_PRUNED, now, CallerId("x"), None)
            )

    async def forget():
        await pruned.wait()
        async with database.transaction(ACME) as records:
            await records.audit.append(
                Event(ACME, EventKind.USER_DEPROVISIONED, now, CallerId("x"), None, ALICE)
            )
            appended.set()
            await records.clients.forget(ACME, ALICE)

    await asyncio.gather(prune(), forget())
