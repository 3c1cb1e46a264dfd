"""What a database does to us is `StoreUnavailableError`, in our words, and passes (S17)."""

import asyncio
import os
import re
import socket
import sqlite3
import subprocess
from contextlib import closing
from datetime import timedelta

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from stepup.domain.actor import TenantId, UserId
from stepup.domain.errors import StoreUnavailableError
from stepup.stores.sql import Limits, SqlDatabase, upgrade
from stepup.stores.sql.faults import sqlstate

ACME = TenantId("acme")
ALICE = UserId("alice")
IMPATIENT = Limits.lasting(timedelta(milliseconds=100))


async def read(database):
    async with database.snapshot() as records:
        return await records.accounts.mfa_enabled(ACME, ALICE)


async def write(database):
    async with database.transaction() as records:
        await records.accounts.set_mfa_enabled(ACME, ALICE, enabled=True)


@pytest.fixture
async def open_sqlite(sqlite):
    database = SqlDatabase(sqlite, IMPATIENT)
    await write(database)
    await read(database)
    yield database
    await database.close()


@pytest.mark.parametrize("use", [read, write])
async def test_a_missing_file_is_unavailable_and_not_made(sqlite_path, use):
    database = SqlDatabase(f"sqlite:///{sqlite_path}")
    with pytest.raises(StoreUnavailableError):
        await use(database)
    assert not sqlite_path.exists()
    await database.close()


@pytest.mark.parametrize("use", [read, write])
async def test_a_file_that_is_no_database_is_unavailable(sqlite_path, use):
    sqlite_path.write_bytes(b"something else" * 1000)
    database = SqlDatabase(f"sqlite:///{sqlite_path}")
    with pytest.raises(StoreUnavailableError):
        await use(database)
    await database.close()


@pytest.mark.parametrize("use", [read, write])
async def test_a_file_that_was_removed_is_unavailable(open_sqlite, sqlite_path, use):
    sqlite_path.unlink()
    with pytest.raises(StoreUnavailableError):
        await use(open_sqlite)


async def test_a_file_that_comes_back_is_used(open_sqlite, sqlite_path):
    sqlite_path.rename(sqlite_path.with_suffix(".away"))
    with pytest.raises(StoreUnavailableError):
        await read(open_sqlite)
    sqlite_path.with_suffix(".away").rename(sqlite_path)
    assert await read(open_sqlite) is True


async def test_a_locked_file_is_unavailable_to_writers_only(open_sqlite, sqlite_path):
    with closing(sqlite3.connect(sqlite_path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError) as raised:
            await write(open_sqlite)
        assert "(SQLITE_BUSY): another program locks it" in raised.value.fault
        assert await read(open_sqlite) is True
    await write(open_sqlite)


async def test_what_cannot_be_read_is_unavailable(open_sqlite, sqlite_path):
    with closing(sqlite3.connect(sqlite_path, isolation_level=None)) as other:
        other.execute(
            "INSERT INTO policies (tenant_id, enabled, max_ages, version)"
            " VALUES ('acme', 1, '{\"no operation\": 1}', 1)"
        )
    with pytest.raises(StoreUnavailableError) as raised:
        async with open_sqlite.snapshot() as records:
            await records.policies.find(ACME)
    assert raised.value.fault.endswith("/state.db has content that this version cannot read")


async def test_the_message_is_ours_and_the_cause_the_drivers(sqlite_path):
    database = SqlDatabase(f"sqlite:///{sqlite_path}")
    with pytest.raises(StoreUnavailableError) as raised:
        await write(database)
    assert str(raised.value) == "the database does not answer as it should"
    assert str(sqlite_path) in raised.value.fault
    assert isinstance(raised.value.__cause__, FileNotFoundError)
    await database.close()


async def test_a_server_that_is_not_there_is_unavailable(unused_tcp_port):
    database = SqlDatabase(f"postgresql://nobody@127.0.0.1:{unused_tcp_port}/stepup")
    for use in (read, write):
        with pytest.raises(StoreUnavailableError) as raised:
            await use(database)
        assert f"127.0.0.1:{unused_tcp_port} cannot be reached (Connection r" in raised.value.fault
    await database.close()


async def test_a_server_that_never_answers_is_unavailable():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        database = SqlDatabase(
            f"postgresql://nobody@127.0.0.1:{silent.getsockname()[1]}/stepup",
            IMPATIENT,
        )
        async with asyncio.timeout(2):
            with pytest.raises(StoreUnavailableError):
                await read(database)
        await database.close()


async def cut_all_connections(url):
    """End them, and wait until they have ended."""
    engine = create_async_engine(make_url(url))
    async with engine.connect() as connection:
        await connection.execute(
            text(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    await engine.dispose()


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_a_connection_that_is_cut_in_a_transaction_is_unavailable(url, database):
    async def cut_before_the_commit():
        async with database.transaction() as records:
            await records.accounts.set_mfa_enabled(ACME, ALICE, enabled=True)
            await cut_all_connections(url)

    with pytest.raises(StoreUnavailableError) as raised:
        await cut_before_the_commit()
    assert re.search("shut down by its administrator|ended the connection", raised.value.fault)
    assert await read(database) is False


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_connections_that_were_cut_meanwhile_are_replaced(url, database):
    await write(database)
    await read(database)
    await cut_all_connections(url)
    await write(database)
    assert await read(database) is True


async def test_s17_to_try_a_write_leaves_nothing_behind(database):
    await database.check_writes()
    await database.check_writes()
    async with database.transaction() as records:
        assert not await records.accounts.mfa_enabled(ACME, ALICE)


async def test_s17_a_database_that_another_program_keeps_locked_takes_no_writes(
    open_sqlite, sqlite_path
):
    with closing(sqlite3.connect(sqlite_path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError):
            await open_sqlite.check_writes()
        other.execute("ROLLBACK")
        await open_sqlite.check_writes()
        assert other.execute("SELECT count(*) FROM accounts WHERE tenant_id = ''").fetchone() == (
            0,
        )


@pytest.fixture
def small_disk(tmp_path):
    """A file system of two megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", disk]
    if os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


async def check_until_the_log_is_full(database):
    for _ in range(2000):  # the write-ahead log may have reserved some space
        await database.check_writes()


async def test_s17_a_database_on_a_full_disk_takes_no_writes_until_there_is_room(small_disk):
    url = f"sqlite:///{small_disk}/state.db"
    await upgrade(url)
    database = SqlDatabase(url, IMPATIENT)
    await database.check_writes()
    filling = small_disk / "filling"
    with pytest.raises(OSError, match="No space"):
        filling.write_bytes(bytes(4 << 20))
    with pytest.raises(StoreUnavailableError):
        await check_until_the_log_is_full(database)
    assert await read(database) is False
    filling.unlink()
    await database.check_writes()
    await database.close()


@pytest.mark.parametrize(
    ("reported", "code"),
    [("28P01", "28P01"), ("\x1b[2J8", None), ("28p01", None), (b"28P01", None)],
)
def test_a_code_of_postgresql_has_no_other_characters(reported, code):
    error = Exception()
    error.sqlstate = reported
    assert sqlstate(error) == code
