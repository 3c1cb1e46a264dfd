"""Limits the calls of one tenant that run at a time in a worker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from stepup.domain.actor import TenantId
from stepup.domain.errors import OverloadedError


@dataclass(slots=True)
class _Share:
    turns: asyncio.Semaphore
    calls: int = 0


class TenantShare:
    """Lets few calls of each tenant run and some wait, and refuses the others (S18).

    A call first waits for the calls of its tenant, and then for a place among the calls of all
    tenants. A tenant without a call uses no memory.

    Args:
        at_once: how many calls of one tenant run at a time or wait for a place among all.
        waiting: how many more of its calls may wait; None sets no limit.
        in_all: how many calls of all tenants run at a time; None sets no limit.
    """

    def __init__(
        self, at_once: int, waiting: int | None = None, *, in_all: int | None = None
    ) -> None:
        self._at_once = at_once
        self._calls = None if waiting is None else at_once + waiting
        self._all = None if in_all is None else asyncio.Semaphore(in_all)
        self._shares: dict[TenantId, _Share] = {}

    @asynccontextmanager
    async def turn(self, tenant_id: TenantId | None) -> AsyncIterator[None]:
        """Wait for a turn of the tenant, and hold it while the block runs.

        Raises:
            OverloadedError: too many calls of the tenant run and wait.
        """
        await self.take(tenant_id)
        try:
            yield
        finally:
            self.give_back(tenant_id)

    async def take(self, tenant_id: TenantId | None) -> None:
        """Wait for a turn of the tenant, and hold it until `give_back`.

        Args:
            tenant_id: None for work without a tenant, which only counts among all.

        Raises:
            OverloadedError: too many calls of the tenant run and wait.
        """
        if tenant_id is not None:
            await self._take_of_tenant(tenant_id)
        if self._all is not None:
            try:
                await self._all.acquire()
            except BaseException:
                self._give_back_to_tenant(tenant_id)
                raise

    def give_back(self, tenant_id: TenantId | None) -> None:
        """End a turn of `take`."""
        if self._all is not None:
            self._all.release()
        self._give_back_to_tenant(tenant_id)

    async def _take_of_tenant(self, tenant_id: TenantId) -> None:
        share = self._shares.setdefault(tenant_id, _Share(asyncio.Semaphore(self._at_once)))
        if share.calls == self._calls:
            raise OverloadedError("too many calls of this tenant are in flight; try again")
        share.calls += 1
        try:
            await share.turns.acquire()
        except BaseException:
            self._leave(tenant_id, share)
            raise

    def _give_back_to_tenant(self, tenant_id: TenantId | None) -> None:
        if tenant_id is not None:
            share = self._shares[tenant_id]
            share.turns.release()
            self._leave(tenant_id, share)

    def _leave(self, tenant_id: TenantId, share: _Share) -> None:
        share.calls -= 1
        if not share.calls:
            del self._shares[tenant_id]
