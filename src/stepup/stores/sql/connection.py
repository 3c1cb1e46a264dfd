"""One connection for the length of a block: interrupted by nothing, failing in one way."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Self, TypeVar

from sqlalchemy import (
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
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from stepup.domain.actor import TenantId
from stepup.domain.errors import ConflictError, StoreUnavailableError
from stepup.service.calls.tenant_share import TenantShare
from stepup.stores.sql.limits import Limits

_T = TypeVar("_T")
_LOST_RACES = {"40001", "40P01"}  # PostgreSQL: serialization failure, deadlock
_ENDED = {"57P01", "57P02"}  # PostgreSQL: shut down by its administrator, or after a crash
_OPTIONS = {"preserve_rowcount": True}
_HOLD = select(func.pg_advisory_xact_lock(func.hashtextextended(bindparam("name"), 0)))


class Query:
    """A SELECT, with and without a lock on its rows.

    Made once and run with other values each time, as every statement of a frequent call is: to
    build a statement costs as much as to run it.
    """

    def __init__(self, statement: Select[Any]) -> None:
        self.statement = statement
        self.locking = statement.with_for_update()

    @classmethod
    def of_user(cls, table: Table) -> Self:
        """The row of a table that belongs to the user `user_id` of the tenant `tenant_id`."""
        columns = table.c
        return cls(
            select(table).where(
                columns.tenant_id == bindparam("tenant_id"), columns.user_id == bindparam("user_id")
            )
        )


class Connection:
    """Runs statements, one after the other.

    When a connection turns out to be lost at the first of them, as after a fail-over, that one is
    run once more on another: nothing was done that could be done twice. Nothing else is ever tried
    again here, and least of all a commit.

    After a statement that failed or was cancelled nothing more is done: SQLite may have rolled
    back, and what came next would be committed by itself.
    """

    def __init__(self, connect: Callable[[], AsyncConnection], *, locking: bool) -> None:
        self._connect = connect
        self._connection = connect()
        self._locking = locking
        self._unused = True
        self._broken = False

    async def open(self) -> None:
        """Take a connection from the pool and begin.

        Raises:
            StoreUnavailableError: there is none, or it cannot lock.
        """
        await self._drive(self._begin())

    async def first(self, query: Query, read: Callable[[Row[Any]], _T], **values: Any) -> _T | None:
        """What `read` makes of the first row; the row is locked in a transaction.

        Args:
            query: the statement.
            read: makes something of a row.
            values: of the statement's parameters.

        Raises:
            StoreUnavailableError: the driver failed, or the row cannot be read.
        """
        # SQLite ignores FOR UPDATE: its transaction has locked everything.
        statement = query.locking if self._locking else query.statement
        found = await self._drive(
            self._execute(statement, lambda result: _each(result, read), values)
        )
        return found[0] if found else None

    async def every(
        self, statement: Executable, read: Callable[[Row[Any]], _T], **values: Any
    ) -> list[_T]:
        """What `read` makes of each row, without locks.

        Args:
            statement: the statement.
            read: makes something of a row.
            values: of the statement's parameters.

        Raises:
            StoreUnavailableError: the driver failed, or a row cannot be read.
        """
        return await self._drive(
            self._execute(statement, lambda result: _each(result, read), values)
        )

    async def write(self, statement: Executable, **values: Any) -> int:
        """Change something; returns how many rows there were.

        Args:
            statement: what to do.
            values: of its columns and parameters.

        Raises:
            ConflictError: it contradicts what another call has written.
            StoreUnavailableError: the driver failed.
        """
        return await self._drive(self._execute(statement, lambda result: result.rowcount, values))

    async def delete_some(self, table: Table, where: ColumnElement[bool], limit: int) -> int:
        """Delete up to `limit` rows; returns how many. Rows that another call locks are left out.

        Raises:
            StoreUnavailableError: the driver failed.
        """
        key = list(table.primary_key.columns)
        # SQLite ignores FOR UPDATE.
        some = select(*key).where(where).limit(limit).with_for_update(skip_locked=True)
        return await self.write(delete(table).where(tuple_(*key).in_(some)))

    async def hold(self, name: str) -> bool:
        """Lock a name until the transaction ends, where there is no row to lock.

        Returns:
            Whether another call may have been waited for. Reading waits for nobody, and SQLite's
            transaction has locked everything.

        Raises:
            StoreUnavailableError: the driver failed, or another call keeps it too long.
        """
        if not self._locking or self.is_sqlite:
            return False
        await self._drive(self._execute(_HOLD, lambda _: None, {"name": name}))
        return True

    def insert(self, table: Table) -> postgresql.Insert | sqlite.Insert:
        """An INSERT that takes ON CONFLICT, which the dialects write alike but apart."""
        if self.is_sqlite:
            return sqlite.insert(table)
        return postgresql.insert(table)

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite, and not PostgreSQL."""
        return self._connection.dialect.name == "sqlite"

    @property
    def file(self) -> tuple[int, int]:
        """Device and inode of the SQLite file that is open."""
        identity: tuple[int, int] = self._connection.sync_connection.info["file"]  # type: ignore[union-attr]
        return identity

    async def commit(self) -> None:
        """Make everything durable.

        Raises:
            ConflictError: it contradicts what another call has written.
            StoreUnavailableError: the commit failed.
        """
        await self._drive(self._connection.commit())

    async def close(self) -> None:
        """Roll back what was not committed, and give the connection back."""
        await uninterrupted(self._give_back())

    async def _begin(self) -> None:
        await self._connection.start()
        if self._locking:
            await self._connection.begin()

    async def _execute(
        self,
        statement: Executable,
        read: Callable[[CursorResult[Any]], _T],
        values: Mapping[str, Any] | None = None,
    ) -> _T:
        try:
            result = await self._run(statement, values)
        except DBAPIError as error:
            if not (self._unused and _is_lost(error)):
                raise
            await self._discard()
            self._connection = self._connect()
            await self._begin()
            result = await self._run(statement, values)
        self._unused = False
        return read(result)

    async def _run(
        self, statement: Executable, values: Mapping[str, Any] | None
    ) -> CursorResult[Any]:
        return await self._connection.execute(statement, values or None, execution_options=_OPTIONS)

    async def _drive(self, work: Coroutine[Any, Any, _T]) -> _T:
        if self._broken:
            work.close()
            raise StoreUnavailableError("the transaction has failed")
        try:
            return await uninterrupted(work)
        # Any exception: drivers raise their own, the system's and the interpreter's, and a row that
        # cannot be read is no better.
        except Exception as error:
            self._broken = True
            raise _translated(error) from error
        except BaseException:
            self._broken = True
            raise

    async def _give_back(self) -> None:
        if self._connection.sync_connection is None:
            return
        # What is broken, or does not even roll back, is closed: no server keeps its transaction.
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


class Lane:
    """The connections of one engine, given out in the order of asking.

    Work of one tenant holds and waits for half of them at most, so that the work of other tenants
    never stands behind a flood of one (S18).
    """

    def __init__(self, engine: AsyncEngine, limits: Limits, *, locking: bool) -> None:
        self._engine = engine
        self._limits = limits
        self._locking = locking
        # Waiting is done here rather than in the pool or in SQLite: fair, and safe to cancel.
        self._turns = TenantShare(max(1, limits.connections // 2), in_all=limits.connections)

    @asynccontextmanager
    async def borrow(self, tenant_id: TenantId | None = None) -> AsyncIterator[Connection]:
        """A connection for one block.

        Args:
            tenant_id: whose work it is for; None for work of no tenant.

        Raises:
            StoreUnavailableError: none became free in time, or none can be opened.
        """
        await self._wait(tenant_id)
        try:
            connection = Connection(self._engine.connect, locking=self._locking)
            try:
                await connection.open()
                yield connection
            finally:
                await connection.close()
        finally:
            self._turns.give_back(tenant_id)

    async def close(self) -> None:
        """Wait, within limits, for the blocks under way, and close everything."""
        with suppress(StoreUnavailableError):
            for _ in range(self._limits.connections):
                await self._wait(None)
        await uninterrupted(self._engine.dispose())

    async def _wait(self, tenant_id: TenantId | None) -> None:
        try:
            async with asyncio.timeout(self._limits.wait.total_seconds()):
                await self._turns.take(tenant_id)
        except TimeoutError as error:
            raise StoreUnavailableError("the database is too busy") from error


async def uninterrupted(work: Coroutine[Any, Any, _T]) -> _T:
    """Let a driver finish what it does before a cancellation goes on its way.

    A driver that is interrupted leaves its connection in a state that nobody knows. Each step is
    short: whoever is cancelled waits no longer than a statement may take.
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


def _each(result: CursorResult[Any], read: Callable[[Row[Any]], _T]) -> list[_T]:
    return [read(row) for row in result]


def _is_lost(error: DBAPIError) -> bool:
    """Whether the server ended the connection, or was never asked."""
    return error.connection_invalidated or _sqlstate(error) in _ENDED


def _sqlstate(error: DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None)


def _translated(error: Exception) -> StoreUnavailableError:
    if isinstance(error, IntegrityError) or (
        isinstance(error, DBAPIError) and _sqlstate(error) in _LOST_RACES
    ):
        return ConflictError("another call changed the same state first")
    return StoreUnavailableError("the database does not answer as it should")
