"""How much of a worker one tenant may use at a time for work that is costly."""

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
    """Lets few calls of each tenant run, some wait, and refuses the others (S18).

    The calls of one tenant wait for each other and never for those of another tenant. A tenant
    without a call takes no memory.

    Args:
        at_once: how many calls of one tenant run at a time.
        waiting: how many more of its calls wait for their turn.
    """

    def __init__(self, at_once: int, waiting: int) -> None:
        self._at_once = at_once
        self._calls = at_once + waiting
        self._shares: dict[TenantId, _Share] = {}

    @asynccontextmanager
    async def turn(self, tenant_id: TenantId) -> AsyncIterator[None]:
        """Wait for the tenant's next turn, and hold it while the block lasts.

        Raises:
            OverloadedError: as many calls of this tenant run and wait as may.
        """
        share = self._shares.setdefault(tenant_id, _Share(asyncio.Semaphore(self._at_once)))
        if share.calls >= self._calls:
            raise OverloadedError("too many calls of this tenant are in flight; try again")
        share.calls += 1
        try:
            async with share.turns:
                yield
        finally:
            share.calls -= 1
            if not share.calls:
                del self._shares[tenant_id]
