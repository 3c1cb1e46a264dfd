"""Which servers of PostgreSQL, and poolers in front of them, a server of stepup cannot use."""

from dataclasses import replace
from secrets import token_hex
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from stepup.domain.errors import StoreUnavailableError
from stepup.stores.connection_faults import causes
from stepup.stores.sql.connection import uninterrupted
from stepup.stores.sql.engine import is_sqlite, parse_url, read_engine
from stepup.stores.sql.faults import describe_place, sqlstate, unavailable
from stepup.stores.sql.limits import Limits

# A prepared statement is missing, or its name is taken: another client used the session.
_OF_ANOTHER_SESSION = {"26000", "42P05"}


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
            f"{describe_place(parse_url(url))} is behind a pooler that pools transactions or"
            " statements: let it pool sessions (PgBouncer: pool_mode = session), or connect without"
            " it"
        )
    if encoding != "UTF8":
        raise UnusableServerError(
            f"{describe_place(parse_url(url))} is in the encoding {encoding}, and names need UTF-8:"
            " create one WITH ENCODING 'UTF8' TEMPLATE template0"
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
