"""What is wrong with a database, in sentences for operators.

A sentence names the file, or the setting, the host, the user and the database; PostgreSQL's
SQLSTATE (its documentation, appendix A); and what to do. It has no password, and no text of the
driver, which could have one (S11).
"""

import getpass
import os
import re
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

from stepup.domain.errors import StoreUnavailableError
from stepup.stores.connection_faults import (
    causes,
    certificate_problem,
    network_problem,
    tls_problem,
)

SETTING: Final = "storage.database_url"

# Each completes "PostgreSQL at HOST ...".
_BY_SQLSTATE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "28P01": "refuses the password of {user} ({code}): check the user and the password",
        "3D000": "has no database {database} ({code}): create it, or check the name",
        "42501": "denies {user} a right that this command needs ({code}): grant the right;"
        " `stepup migrate --grant-to` grants those of a server",
        "42P01": "has no schema of stepup in the database {database} ({code}): run `stepup"
        " migrate`",
        "25006": "is read-only ({code}): name the primary, or turn"
        " default_transaction_read_only off for the database and {user}",
        "53300": "has no free connection ({code}): raise max_connections there, or lower"
        " storage.database.connections",
        "53100": "has no space on its disk ({code}): free some space",
        "53400": "has reached a limit of its configuration ({code}): see the log of PostgreSQL",
        "57P01": "was shut down by its administrator ({code}): start it",
        "57P02": "ended after a crash ({code}): it restarts by itself; see the log of PostgreSQL",
        "57P03": "starts, recovers or shuts down ({code}): wait until it takes connections",
        "57014": "took too long for a statement ({code}): see its load, and"
        " storage.database.statement_seconds",
        "55P03": "waited too long for rows that another call locks ({code}): see"
        " storage.database.lock_seconds",
    }
)
_SQLSTATE: Final = re.compile(r"[0-9A-Z]{5}")
_NO_LOGIN: Final = "InitializeSessionUserId"
"""The function of PostgreSQL that reports 28000 for a role, and not for a line of pg_hba.conf."""
_SQLITE_REMEDIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "SQLITE_NOTADB": "it is not a database of SQLite: check the path",
        "SQLITE_CORRUPT": "it is damaged: restore it from a back-up",
        "SQLITE_READONLY": "it is read-only: let this user write the file and its directory",
        "SQLITE_CANTOPEN": "let this user read and write the file and its directory",
        "SQLITE_BUSY": "another program locks it: end that program",
        "SQLITE_FULL": "its disk is full: free some space",
        "SQLITE_IOERR": "see the disk, and the log of the system",
    }
)


def describe_sql_fault(url: URL, error: BaseException) -> str:
    """Why a database cannot be opened, read or changed, and what to do.

    Args:
        url: a result of `engine.parse_url`.
        error: an error of SQLAlchemy or of a driver, with its causes.
    """
    found = list(causes(error))
    for each in found:
        if isinstance(each, StoreUnavailableError):
            return each.fault
    if not any(isinstance(each, OSError | DBAPIError) or _is_of_asyncpg(each) for each in found):
        return f"{describe_place(url)} has content that this version cannot read"
    if url.get_backend_name() == "sqlite":
        return _of_sqlite(url, found)
    return f"{SETTING}: PostgreSQL at {_address(url)} {_of_postgresql(url, found)}"


def unavailable(url: URL, error: BaseException) -> StoreUnavailableError:
    """The error for a database that cannot be opened, read or changed."""
    return StoreUnavailableError(
        "the database does not answer as it should", describe_sql_fault(url, error)
    )


def describe_place(url: URL) -> str:
    """The database, for sentences about its content."""
    if url.get_backend_name() == "sqlite":
        return f"the database file {url.database}"
    return f"{SETTING}: the database {_database(url)} of PostgreSQL at {_address(url)}"


def sqlstate(error: BaseException) -> str | None:
    """PostgreSQL's code of an error, if the server reported one that has the form of a code."""
    code = getattr(error, "sqlstate", None)
    return code if isinstance(code, str) and _SQLSTATE.fullmatch(code) else None


def _of_sqlite(url: URL, found: Sequence[BaseException]) -> str:
    path = Path(url.database or "")
    if any(isinstance(each, FileNotFoundError) for each in found):
        return f"the database file {path} does not exist: run `stepup migrate`, or start a server"
    names = [
        each.sqlite_errorname
        for each in found
        if isinstance(each, sqlite3.Error) and hasattr(each, "sqlite_errorname")
    ]
    if names:
        primary = "_".join(names[0].split("_")[:2])  # of SQLITE_READONLY_DIRECTORY, SQLITE_READONLY
        remedy = _SQLITE_REMEDIES.get(primary, "see SQLite's documentation of this result code")
        return f"the database file {path} cannot be read or changed ({names[0]}): {remedy}"
    reasons = [each.strerror for each in found if isinstance(each, OSError) and each.strerror]
    return f"the database file {path} cannot be read or changed" + "".join(
        f" ({reason})" for reason in reasons[:1]
    )


def _of_postgresql(url: URL, found: Sequence[BaseException]) -> str:
    codes = [code for each in found if (code := sqlstate(each))]
    if codes:
        code = codes[0]
        if code == "28000":
            return _of_refused_login(url, found)
        if code.startswith("08"):
            return f"ended the connection ({code}): see its log, and the network"
        sentence = _BY_SQLSTATE.get(
            code, "answers with an error ({code}): see the log of PostgreSQL"
        )
        return sentence.format(code=code, user=_user(url), database=_database(url))
    kinds = {type(each).__name__ for each in found}
    if "TargetServerAttributeNotMatched" in kinds:
        return "is a standby: name the primary, or all servers of the cluster"
    return _of_tls(url, found, kinds) or _of_network(found)


def _is_of_asyncpg(error: BaseException) -> bool:
    return type(error).__module__.startswith("asyncpg")


def _of_refused_login(url: URL, found: Sequence[BaseException]) -> str:
    if any(getattr(each, "server_source_function", None) == _NO_LOGIN for each in found):
        return f"has no role that may log in for {_user(url)} (28000): create it WITH LOGIN"
    return (
        f"accepts no connection of {_user(url)} from this host as it is made (28000): see"
        " pg_hba.conf; if TLS is demanded there, add ?ssl=verify-full; if a client's certificate"
        " is, name it in PGSSLCERT and PGSSLKEY"
    )


def _of_tls(url: URL, found: Sequence[BaseException], kinds: set[str]) -> str | None:
    if problem := certificate_problem(found):
        authorities = os.environ.get("PGSSLROOTCERT") or "no file"
        return (
            f"presents a certificate that is not verified ({problem}): PGSSLROOTCERT names"
            f" {authorities}, which must have its authority; the URL must name a host of the"
            " certificate"
        )
    if problem := tls_problem(found):
        return f"fails the TLS handshake ({problem}): see the log of PostgreSQL"
    if "ClientConfigurationError" in kinds and _tls_mode(url).startswith("verify-"):
        return (
            "cannot be verified, because no authorities are known: name their file in PGSSLROOTCERT"
        )
    refused = any(isinstance(each, ConnectionError) and "SSL" in str(each) for each in found)
    if refused and _tls_mode(url) in {"require", "verify-ca", "verify-full"}:
        return (
            "does not offer TLS, which the URL demands (ssl): turn ssl on there, or check the port"
        )
    return None


def _of_network(found: Sequence[BaseException]) -> str:
    reason = network_problem(found)
    if reason is not None:
        return f"cannot be reached ({reason}): check the URL, the network and the server"
    return (
        "ended the connection, or does not answer in PostgreSQL's protocol: see its log, and check"
        " host and port"
    )


def _tls_mode(url: URL) -> str:
    return str(url.query.get("ssl") or os.environ.get("PGSSLMODE", "prefer"))


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
