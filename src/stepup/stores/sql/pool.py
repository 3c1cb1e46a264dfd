"""The connections of one engine, shared fairly among tenants."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from sqlalchemy.ext.asyncio import AsyncEngine

from stepup.domain.actor import TenantId
from stepup.domain.errors import StoreUnavailableError
from stepup.service.calls.tenant_share import TenantShare
from stepup.stores.sql.connection import Connection, uninterrupted
from stepup.stores.sql.limits import Limits


class ConnectionPool:
    """Gives connections out in the order in which they are asked for.

    The work of one tenant holds and waits for half of them at most, so that the work of other
    tenants never waits for a flood of one tenant (S18).
    """

    def __init__(self, engine: AsyncEngine, limits: Limits, *, in_transaction: bool) -> None:
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
            connection = Connection(self._engine.connect, in_transaction=self._in_transaction)
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
