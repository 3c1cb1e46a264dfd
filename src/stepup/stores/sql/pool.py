"""The connections of an engine: shared fairly among tenants, and to one primary only (S18, S28)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, NamedTuple

import structlog
from sqlalchemy import URL, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection
from sqlalchemy.util import await_only

from stepup.domain.actor import TenantId
from stepup.domain.errors import StoreUnavailableError
from stepup.service.calls.limits import TenantShare
from stepup.stores.sql.connection import Connection, uninterrupted
from stepup.stores.sql.engine import terminated_on_failure
from stepup.stores.sql.limits import Limits

_log = structlog.get_logger(__name__)
# None of these values changes while the server runs: it was a primary when the connection opened.
_SERVER: Final = """
    SELECT (SELECT system_identifier FROM pg_control_system())::text,
        ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint,
        extract(epoch FROM pg_postmaster_start_time())::text
"""


class ConnectionPool:
    """Gives connections out in the order in which they are asked for.

    The work of one tenant holds and waits for half of them at most, so that the work of other
    tenants never waits for a flood of one tenant (S18).
    """

    def __init__(
        self, url: URL, engine: AsyncEngine, limits: Limits, *, in_transaction: bool
    ) -> None:
        self._url = url
        self._engine = engine
        self._limits = limits
        self._in_transaction = in_transaction
        # Waiting is done here rather than in the pool or in SQLite: fair, and safe to cancel.
        self._turns = TenantShare(max(1, limits.connections // 2), in_all=limits.connections)

    @asynccontextmanager
    async def borrow(self, tenant_id: TenantId | None = None) -> AsyncIterator[Connection]:
        """Wait for a connection, and lend it for one block of work, of a tenant or of none.

        Raises:
            StoreUnavailableError: none became free in time, or none can be opened.
        """
        await self._wait(tenant_id)
        try:
            connection = Connection(
                self._url, self._engine.connect, in_transaction=self._in_transaction
            )
            try:
                await connection.open()
                yield connection
            finally:
                await connection.close()
        finally:
            self._turns.give_back(tenant_id)

    async def close(self) -> None:
        """Wait, within limits, until all connections are given back; then close them."""
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


class ServerRun(NamedTuple):
    """One run of a PostgreSQL server. A promotion counts the timeline up."""

    system: str
    timeline: int
    started: str


class PrimaryFence:
    """Refuses connections of a process that lead to more than one primary.

    After a fail-over the earlier primary may still answer, or answer again. Its timeline is lower
    than that of the promoted standby. The fence refuses it, and every server that was left for
    another one, until the process ends: of two that answer in turn at most one is right.
    """

    def __init__(self) -> None:
        self.current: ServerRun | None = None
        self._left: set[ServerRun] = set()
        self._timelines: dict[str, int] = {}
        self._logged: set[ServerRun] = set()

    def admit(self, server: ServerRun) -> None:
        """Accept a server as the current one, unless it was left or has a lower timeline.

        Raises:
            StoreUnavailableError: the server is refused.
        """
        if server == self.current:
            return
        highest = self._timelines.get(server.system, server.timeline)
        if server in self._left or server.timeline < highest:
            if server not in self._logged:
                self._logged.add(server)
                _log.error(
                    "database_server_refused",
                    timeline=server.timeline,
                    known_timeline=highest,
                    explanation="another primary was promoted, or answers in turn with this one:"
                    " stop the wrong primary; restart stepup if it refuses the right one",
                )
            raise StoreUnavailableError("the database server is not the one that was promoted")
        if self.current is not None:
            self._left.add(self.current)
        self.current = server
        self._timelines[server.system] = server.timeline

    def guard(self, engine: AsyncEngine) -> None:
        """Make an engine refuse new and pooled connections that lead to another primary."""

        def admit_new(connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
            driver: Any = connection
            with terminated_on_failure(driver):
                row = await_only(driver.driver_connection.fetchrow(_SERVER))
                entry.info["server"] = ServerRun(*row)
                self.admit(entry.info["server"])

        def refuse_other(
            _: DBAPIConnection, entry: ConnectionPoolEntry, __: PoolProxiedConnection
        ) -> None:
            if entry.info["server"] != self.current:
                raise DisconnectionError

        event.listen(engine.sync_engine, "connect", admit_new)
        event.listen(engine.sync_engine, "checkout", refuse_other)
