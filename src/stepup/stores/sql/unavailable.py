"""Why a database cannot be opened, in sentences for operators."""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sqlalchemy import URL

from stepup.domain.errors import StoreUnavailableError
from stepup.stores.sql.engine import is_sqlite

_REFUSED: Final = {"28000", "28P01"}  # PostgreSQL: no such role or wrong password
_NO_DATABASE: Final = "3D000"
_NO_PERMISSION: Final = "42501"


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
    server, user = f"PostgreSQL at {_address(url)}", url.username or "of this process"
    codes = [code for each in causes(error) if (code := sqlstate(each))]
    if _REFUSED.intersection(codes):
        return f"{server} refuses the user {user}: check the user and the password"
    if _NO_DATABASE in codes:
        return f"{server} has no database {url.database}: create it, or check the name"
    if _NO_PERMISSION in codes:
        return f"{server} denies the user {user} the rights that this command needs"
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


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ConnectionError) and error.errno is not None:
        return os.strerror(error.errno)  # asyncio's own text repeats the address
    return error.strerror or type(error).__name__


def _in_brackets(details: list[str]) -> str:
    return f" ({details[0]})" if details else ""
