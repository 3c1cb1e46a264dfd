"""How SQLite and PostgreSQL are opened."""

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Dialect, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
from sqlalchemy.exc import ArgumentError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection
from sqlalchemy.util import await_only

from stepup.stores.sql.limits import Limits
from stepup.stores.sql.url import check_postgresql, check_text
from stepup.system import pem
from stepup.system.distribution import are_installed, missing_extra

_WAITS_FOR_SWITCH = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32)  # seconds
_GRACE_SECONDS = 1
"""The driver waits longer than the server, whose own timeouts say what has happened."""
# A commit that was acknowledged must not be lost in a crash (S2). `remote_apply` demands even more
# than `on`, and stays what the server's configuration says.
_COMMIT_DURABLY = (
    "SELECT set_config('synchronous_commit', 'on', false)"
    " WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')"
)
_READ_ONLY = "SET default_transaction_read_only = on"
_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}

_MODES_WITH_FILES = {"require", "verify-ca", "verify-full"}
_TLS_FILES: Mapping[str, Callable[[bytes], object]] = {
    "PGSSLROOTCERT": pem.parse_certificates,
    "PGSSLCERT": pem.parse_certificates,
    "PGSSLKEY": pem.parse_private_key,
}


def parse_url(text: str) -> URL:
    """Read a database URL: `sqlite:///<path>` or `postgresql://<user>@<host>/<database>`.

    Raises:
        ValueError: it is something else, or the driver is not installed. The message does not
            repeat the URL: it may hold a password.
    """
    check_text(text)
    try:
        url = make_url(text)
        url = url.set(drivername=_DRIVERS[url.drivername])
    except (ArgumentError, KeyError, ValueError):
        raise ValueError("the database URL must be sqlite:///... or postgresql://...") from None
    if not is_sqlite(url):
        if not are_installed("asyncpg"):
            raise ValueError(f"PostgreSQL {missing_extra('postgres')}")
        check_postgresql(url, text)
    elif url.database in (None, "", ":memory:") or url.query:
        raise ValueError("the URL of a SQLite database must be sqlite:/// and a path, no more")
    return url


def check_tls_files(url: URL) -> None:
    """Demand that OpenSSL can read the files of the TLS connection to a PostgreSQL server.

    The variables of libpq name them; the driver reads them itself, for each connection. OpenSSL
    passes over a block behind a byte-order mark, and would silently lose an authority.

    Raises:
        PemError: the message names variable and file.
    """
    mode = url.query.get("ssl") or os.environ.get("PGSSLMODE", "")
    if is_sqlite(url) or mode not in _MODES_WITH_FILES:
        return
    for variable, parse in _TLS_FILES.items():
        path = os.environ.get(variable)
        if path:
            try:
                pem.check_plain_file(path, parse)
            except pem.PemError as error:
                raise pem.PemError(f"{variable}: {path}: {error}") from None


def write_engine(url: URL, limits: Limits, *, create: bool = False) -> AsyncEngine:
    """An engine for transactions; with `create`, it creates a SQLite file for its owner only."""
    if not is_sqlite(url):
        return _postgresql(url, limits, _COMMIT_DURABLY, isolation_level="READ COMMITTED")
    engine = _sqlite(url, limits, create=create)
    event.listen(engine.sync_engine, "connect", _prepare_writer)
    event.listen(engine.sync_engine, "begin", _begin_immediate)
    return engine


def read_engine(url: URL, limits: Limits) -> AsyncEngine:
    """An engine for reads: no statement is in a transaction, and none takes locks."""
    alone: dict[str, Any] = {"isolation_level": "AUTOCOMMIT", "skip_autocommit_rollback": True}
    if not is_sqlite(url):
        return _postgresql(url, limits, _READ_ONLY, **alone)
    engine = _sqlite(url, limits, **alone)
    event.listen(engine.sync_engine, "connect", _prepare_reader)
    return engine


@contextmanager
def terminated_on_failure(driver: Any) -> Iterator[None]:
    """End a new connection of asyncpg when the block fails: the pool has not taken it yet."""
    try:
        yield
    except BaseException:
        driver.terminate()
        raise


def is_sqlite(url: URL) -> bool:
    """Whether a database is a file of SQLite."""
    return url.get_backend_name() == "sqlite"


def _sqlite(url: URL, limits: Limits, *, create: bool = False, **options: Any) -> AsyncEngine:
    path = Path(url.database or "")
    engine = create_async_engine(
        url.set(database=f"file:{quote(str(path))}", query={"uri": "true", "mode": "rw"}),
        # The driver begins no transactions: it would begin them late, and deferred.
        connect_args={"timeout": limits.lock.total_seconds(), "isolation_level": None},
        **_sized(limits, options),
    )

    def find_file(_: Dialect, entry: ConnectionPoolEntry, __: Any, ___: Any) -> None:
        if create:
            path.touch(mode=0o600)
        entry.info["file"] = path.stat()

    def same_file(
        _: DBAPIConnection, entry: ConnectionPoolEntry, __: PoolProxiedConnection
    ) -> None:
        # SQLite would continue with a file that was removed or replaced, and lose its commits.
        if not os.path.samestat(entry.info["file"], path.stat()):
            raise DisconnectionError

    event.listen(engine.sync_engine, "do_connect", find_file)
    event.listen(engine.sync_engine, "checkout", same_file)
    return engine


def _postgresql(url: URL, limits: Limits, setting: str, **options: Any) -> AsyncEngine:
    engine = create_async_engine(
        url,
        connect_args={
            "timeout": limits.wait.total_seconds(),
            "command_timeout": limits.statement.total_seconds() + _GRACE_SECONDS,
            # After a fail-over a name may still lead to a server that is a standby now, and whose
            # data is old. Whether a primary is read-only is its operator's decision.
            "target_session_attrs": "primary",
            "server_settings": {"application_name": "stepup"},
        },
        **_sized(limits, options),
    )
    # Not as the connection is opened: PgBouncer would refuse these settings there, or ignore them.
    settings = f"""
        SET statement_timeout = {_milliseconds(limits.statement)};
        SET lock_timeout = {_milliseconds(limits.lock)};
        -- Frees the locks of a worker that vanished within a transaction.
        SET idle_in_transaction_session_timeout = {_milliseconds(5 * limits.lock)};
        {setting}
    """

    def set_up(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        driver: Any = connection
        with terminated_on_failure(driver):
            await_only(driver.driver_connection.execute(settings))

    def still_open(
        _: DBAPIConnection, entry: ConnectionPoolEntry, __: PoolProxiedConnection
    ) -> None:
        # Costs no round trip, unlike pool_pre_ping. A connection that was lost without notice fails
        # at its next statement, and is replaced then.
        driver: Any = entry.driver_connection
        if driver.is_closed():
            raise DisconnectionError

    event.listen(engine.sync_engine, "connect", set_up)
    event.listen(engine.sync_engine, "checkout", still_open)
    return engine


def _milliseconds(duration: timedelta) -> str:
    return f"{duration / timedelta(milliseconds=1):.0f}"


def _sized(limits: Limits, options: dict[str, Any]) -> dict[str, Any]:
    return {
        "pool_size": limits.connections,
        "max_overflow": 0,
        "hide_parameters": True,  # S11
        **options,
    }


def _prepare_writer(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    with _setting_up(connection) as cursor:
        _switch_to_wal(cursor)
        # FULL: the write-ahead log is on the disk before a commit is acknowledged.
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")


def _prepare_reader(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    with _setting_up(connection) as cursor:
        cursor.execute("PRAGMA query_only=ON")


@contextmanager
def _setting_up(connection: DBAPIConnection) -> Iterator[DBAPICursor]:
    with closing(connection.cursor()) as cursor:
        try:
            yield cursor
        except BaseException:
            connection.close()  # the pool has not taken it yet
            raise


def _switch_to_wal(cursor: DBAPICursor) -> None:
    # The file keeps the mode. When several processes switch a new file, SQLite refuses all but one
    # of them at once.
    for wait in _WAITS_FOR_SWITCH:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            await_only(asyncio.sleep(wait))
        else:
            return
    cursor.execute("PRAGMA journal_mode=WAL")


def _begin_immediate(connection: Connection) -> None:
    # A deferred transaction would take the write lock at its first write, when other transactions
    # may have changed the rows that it has read.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
