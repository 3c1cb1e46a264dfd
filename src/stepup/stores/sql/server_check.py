"""Whether a database can be used, and why not, in sentences for operators."""

import getpass
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncConnection

from stepup.domain.errors import StoreUnavailableError
from stepup.stores.sql.connection import uninterrupted
from stepup.stores.sql.engine import is_sqlite, parse_url, read_engine
from stepup.stores.sql.limits import Limits

_REFUSED: Final = {"28000", "28P01"}  # PostgreSQL: no such role or wrong password
_NO_DATABASE: Final = "3D000"
_NO_PERMISSION: Final = "42501"
# A prepared statement is missing, or its name is taken: another client used the session.
_OF_ANOTHER_SESSION = {"26000", "42P05"}


def unavailable(url: URL, error: Exception) -> StoreUnavailableError:
    """The error for a database that cannot be opened or read.

    The message names the file or the host, the user and the database, what happened, and what to
    do. It has no password, and no text of the driver, which could have one (S11).
    """
    problem = _of_sqlite(url, error) if is_sqlite(url) else _of_postgresql(url, error)
    return StoreUnavailableError(problem)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and each that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def sqlstate(error: BaseException) -> str | None:
    """PostgreSQL's code of an error, if the server reported one."""
    return getattr(error, "sqlstate", None)


def _of_sqlite(url: URL, error: Exception) -> str:
    path = Path(url.database or "")
    if not path.exists():
        return f"the database file {path} does not exist: run `stepup migrate`, or start a server"
    codes = [
        each.sqlite_errorname
        for each in causes(error)
        if isinstance(each, sqlite3.Error) and hasattr(each, "sqlite_errorname")
    ]
    return f"the database file {path} cannot be read or changed{_in_brackets(codes)}"


def _of_postgresql(url: URL, error: Exception) -> str:
    server = f"PostgreSQL at {_address(url)}"
    codes = [code for each in causes(error) if (code := sqlstate(each))]
    if _REFUSED.intersection(codes):
        return f"{server} refuses {_user(url)}: check the user and the password"
    if _NO_DATABASE in codes:
        return f"{server} has no database {_database(url)}: create it, or check the name"
    if _NO_PERMISSION in codes:
        return (
            f"{server} denies {_user(url)} a right that this command needs: grant the right;"
            " `stepup migrate --grant-to` grants those of a server"
        )
    if codes:
        return f"{server} answers with an error{_in_brackets(codes)}: see the log of PostgreSQL"
    if any(type(each).__name__ == "TargetServerAttributeNotMatched" for each in causes(error)):
        return f"{server} is a standby: name the primary, or all servers of the cluster"
    reasons = [_reason(each) for each in causes(error) if isinstance(each, OSError)]
    return (
        f"{server} cannot be reached{_in_brackets(reasons)}: check the URL, the network and the"
        " server"
    )


def _address(url: URL) -> str:
    hosts = url.query.get("host", ())
    if url.host:
        return f"{url.host}:{url.port}" if url.port else url.host
    return (hosts if isinstance(hosts, str) else ", ".join(hosts)) or "the default address"


def _user(url: URL) -> str:
    if url.username:
        return f"the user {url.username}"
    return f"the user {_default_user()} (the database URL has no user)"


def _database(url: URL) -> str:
    return url.database or os.environ.get("PGDATABASE") or url.username or _default_user()


def _default_user() -> str:
    """The user that the driver takes for a URL without one."""
    return os.environ.get("PGUSER") or getpass.getuser()


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ConnectionError) and error.errno is not None:
        return os.strerror(error.errno)  # asyncio's own text repeats the address
    return error.strerror or type(error).__name__


def _in_brackets(details: list[str]) -> str:
    return f" ({details[0]})" if details else ""


class UnusableServerError(StoreUnavailableError):
    """The server, or a pooler in front of it, cannot be used."""


async def demand_usable_server(url: str, limits: Limits = Limits()) -> None:
    """Refuse a PostgreSQL database without UTF-8, and a pooler of transactions or statements.

    Such a pooler gives each transaction to any session of the server. The connection's settings do
    not hold there: not `synchronous_commit` (S2), no timeout, no prepared statement. The check
    finds such a pooler by its behaviour, whatever product it is. SQLite is always usable.

    Raises:
        UnusableServerError: the message says why, and what to do.
        StoreUnavailableError: the database cannot be reached.
    """
    if not is_sqlite(parse_url(url)):
        await uninterrupted(_look(url, limits))


async def _look(url: str, limits: Limits) -> None:
    engine = read_engine(parse_url(url), replace(limits, connections=2))
    try:
        async with engine.connect() as one, engine.connect() as other:
            has_own_sessions = await _keep_marks(await _driver(one), await _driver(other))
            encoding = (await one.exec_driver_sql("SHOW server_encoding")).scalar_one()
    except Exception as error:
        if not any(sqlstate(each) in _OF_ANOTHER_SESSION for each in causes(error)):
            raise unavailable(parse_url(url), error) from error
        has_own_sessions = False
    finally:
        await engine.dispose()
    if not has_own_sessions:
        raise UnusableServerError(
            "between this server and PostgreSQL is a pooler that pools transactions or statements:"
            " let it pool sessions (PgBouncer: pool_mode = session), or connect without it"
        )
    if encoding != "UTF8":
        raise UnusableServerError(
            f"the database is in the encoding {encoding}, and names need UTF-8: create one WITH"
            " ENCODING 'UTF8' TEMPLATE template0"
        )


async def _keep_marks(one: Any, other: Any) -> bool:
    """Whether each connection has a session of the server to itself.

    A pooler gives out its sessions in turn, or the last used one first. This order shows either.
    """
    marks = {one: token_hex(8), other: token_hex(8)}
    for connection, mark in marks.items():
        await connection.execute(f"SET stepup.session = '{mark}'")
    for connection in (one, other, other, one):
        # As a simple query, which prepares no statement; only its row count is returned.
        rows = await connection.execute(
            f"SELECT 1 WHERE current_setting('stepup.session', true) = '{marks[connection]}'"
        )
        if rows != "SELECT 1":
            return False
    return True


async def _driver(connection: AsyncConnection) -> Any:
    return (await connection.get_raw_connection()).driver_connection
