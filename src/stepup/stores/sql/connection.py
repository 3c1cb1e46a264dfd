"""One connection for the length of a block: it is never interrupted, and fails in one way."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from sqlalchemy import (
    URL,
    ColumnElement,
    CursorResult,
    Executable,
    Row,
    Select,
    Table,
    bindparam,
    delete,
    func,
    select,
    tuple_,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from stepup.domain.errors import ConflictError, StoreUnavailableError
from stepup.stores.sql.faults import sqlstate, unavailable

_T = TypeVar("_T")
_LOST_RACES = {"40001", "40P01"}  # PostgreSQL: serialization failure, deadlock
_ENDED = {"57P01", "57P02"}  # PostgreSQL: shut down by its administrator, or after a crash
_OPTIONS = {"preserve_rowcount": True}
_LOCK_NAME = select(func.pg_advisory_xact_lock(func.hashtextextended(bindparam("name"), 0)))


class Connection:
    """Runs statements, one after the other.

    If the connection turns out to be lost at the first statement, as after a fail-over, it is
    replaced, and the statement runs once more: it cannot have had an effect. Nothing else is ever
    repeated here, and least of all a commit.

    After a statement has failed or was cancelled, no other one runs: SQLite may have rolled back,
    and would commit the next statement by itself.

    Every method raises `StoreUnavailableError` if the driver fails, or a row cannot be read; those
    that write raise `ConflictError` if they contradict what another call has written.
    """

    def __init__(
        self, url: URL, connect: Callable[[], AsyncConnection], *, in_transaction: bool
    ) -> None:
        self._url = url
        self._connect = connect
        self._connection = connect()
        self._in_transaction = in_transaction
        self._unused = True
        self._broken = False

    async def open(self) -> None:
        """Take a connection from the engine's pool, and begin the transaction if there is one."""
        await self._finish(self._begin())

    async def fetch_all(
        self, statement: Executable, read: Callable[[Row[Any]], _T], **values: Any
    ) -> list[_T]:
        """Return what `read` makes of each row. The other values are the statement's parameters."""
        return await self._finish(
            self._execute(statement, lambda result: [read(row) for row in result], values)
        )

    async def fetch_first(
        self, statement: Executable, read: Callable[[Row[Any]], _T], **values: Any
    ) -> _T | None:
        """Return what `read` makes of the first row; None if there is no row."""
        found = await self.fetch_all(statement, read, **values)
        return found[0] if found else None

    async def fetch_or_lock(
        self, locking: Select[Any], read: Callable[[Row[Any]], _T], name: str, **values: Any
    ) -> _T | None:
        """Lock and return the first row of a SELECT ... FOR UPDATE; if there is none, lock a name.

        Both locks last until the transaction ends. Another transaction may have held the name, and
        have inserted the row: so the row is looked for once more.
        """
        found = await self.fetch_first(locking, read, **values)
        if found is None and not self.is_sqlite:
            await self.lock_name(name)
            found = await self.fetch_first(locking, read, **values)
        return found

    async def lock_name(self, name: str) -> None:
        """Lock a name until the transaction ends.

        On SQLite the transaction has locked everything.
        """
        if not self.is_sqlite:
            await self._finish(self._execute(_LOCK_NAME, lambda _: None, {"name": name}))

    async def write(self, statement: Executable, **values: Any) -> int:
        """Change rows; return how many. Values are for the statement's columns and parameters."""
        return await self._finish(self._execute(statement, lambda result: result.rowcount, values))

    async def insert_if_absent(self, table: Table, **values: Any) -> bool:
        """Insert a row; return False if a row with its primary key exists."""
        return await self.write(self._insert(table).on_conflict_do_nothing(), **values) == 1

    async def insert_or_replace(self, table: Table, **values: Any) -> None:
        """Insert a row with a value for every column, in place of the one with its primary key."""
        statement = self._insert(table)
        await self.write(
            statement.on_conflict_do_update(
                index_elements=list(table.primary_key.columns),
                set_={
                    column.name: statement.excluded[column.name]
                    for column in table.columns
                    if not column.primary_key
                },
            ),
            **values,
        )

    async def delete_some(self, table: Table, where: ColumnElement[bool], limit: int) -> int:
        """Delete up to `limit` rows; return how many. Rows that another call locks are left out."""
        key = list(table.primary_key.columns)
        # SQLite ignores FOR UPDATE.
        some = select(*key).where(where).limit(limit).with_for_update(skip_locked=True)
        return await self.write(delete(table).where(tuple_(*key).in_(some)))

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite, and not PostgreSQL."""
        return self._connection.dialect.name == "sqlite"

    @property
    def file(self) -> tuple[int, int]:
        """Device and inode of the SQLite file that is open."""
        status: os.stat_result = self._connection.sync_connection.info["file"]  # type: ignore[union-attr]
        return status.st_dev, status.st_ino

    async def commit(self) -> None:
        """Make everything durable."""
        await self._finish(self._connection.commit())

    async def close(self) -> None:
        """Roll back what was not committed, and give the connection back."""
        await uninterrupted(self._give_back())

    def _insert(self, table: Table) -> postgresql.Insert | sqlite.Insert:
        return sqlite.insert(table) if self.is_sqlite else postgresql.insert(table)

    async def _begin(self) -> None:
        await self._connection.start()
        if self._in_transaction:
            await self._connection.begin()

    async def _execute(
        self,
        statement: Executable,
        read: Callable[[CursorResult[Any]], _T],
        values: Mapping[str, Any],
    ) -> _T:
        try:
            result = await self._send(statement, values)
        except DBAPIError as error:
            if not (self._unused and _is_lost(error)):
                raise
            await self._discard()
            self._connection = self._connect()
            await self._begin()
            result = await self._send(statement, values)
        self._unused = False
        return read(result)

    async def _send(self, statement: Executable, values: Mapping[str, Any]) -> CursorResult[Any]:
        return await self._connection.execute(statement, values or None, execution_options=_OPTIONS)

    async def _finish(self, work: Coroutine[Any, Any, _T]) -> _T:
        if self._broken:
            work.close()
            raise StoreUnavailableError("the transaction has failed")
        try:
            return await uninterrupted(work)
        # Any exception: drivers raise their own, the system's and the interpreter's, and a row that
        # cannot be read is a failure, too.
        except Exception as error:
            self._broken = True
            raise _translated(self._url, error) from error
        except BaseException:
            self._broken = True
            raise

    async def _give_back(self) -> None:
        if self._connection.sync_connection is None:
            return
        # A connection that is broken, or cannot roll back, is closed: no server keeps its
        # transaction.
        if not self._broken:
            with suppress(Exception):
                await self._connection.close()
                return
        await self._discard()

    async def _discard(self) -> None:
        with suppress(Exception):
            await self._connection.invalidate()
        with suppress(Exception):
            await self._connection.close()


class Repository:
    """Reads and writes the tables of one port, on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection


async def uninterrupted(work: Coroutine[Any, Any, _T]) -> _T:
    """Wait for a driver's work to its end, and only then raise a cancellation that has arrived.

    A driver that is interrupted leaves its connection in a state that nobody knows. Each step is
    short: a cancelled call waits no longer than a statement may take.
    """
    task = asyncio.create_task(work)
    cancellation: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            cancellation = error
    if cancellation is None:
        return task.result()
    if not task.cancelled():
        task.exception()  # retrieved: the cancellation is what counts
    try:
        raise cancellation
    finally:
        # Its traceback holds this frame: without this they would hold each other, and with them
        # everything of the call, until the garbage collector comes (S18).
        del cancellation


def _is_lost(error: DBAPIError) -> bool:
    """Whether the server ended the connection, or was never asked."""
    return error.connection_invalidated or _sqlstate(error) in _ENDED


def _sqlstate(error: DBAPIError) -> str | None:
    return None if error.orig is None else sqlstate(error.orig)


def _translated(url: URL, error: Exception) -> StoreUnavailableError:
    if isinstance(error, IntegrityError) or (
        isinstance(error, DBAPIError) and _sqlstate(error) in _LOST_RACES
    ):
        return ConflictError("another call changed the same state first")
    return unavailable(url, error)
