"""The receipts that retries have used."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, bindparam, select

from stepup.domain.actor import TenantId
from stepup.domain.receipts import Redemption
from stepup.stores.sql.connection import Connection
from stepup.stores.sql.tables import redemptions

_FIND = select(redemptions).where(
    redemptions.c.tenant_id == bindparam("tenant_id"),
    redemptions.c.decision_id == bindparam("decision_id"),
    redemptions.c.redeemed_by.is_not(None),
)


class SqlRedemptions:
    """Implements `Redemptions`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def redeem(
        self, tenant_id: TenantId, receipt_of: UUID, redemption: Redemption, forget_at: datetime
    ) -> bool:
        """See `Redemptions`."""
        statement = self._connection.insert(redemptions).values(
            tenant_id=tenant_id,
            decision_id=receipt_of,
            forget_at=forget_at,
            redeemed_by=redemption.decision_id,
            redeemed_at=redemption.redeemed_at,
            request_id=redemption.request_id,
            check_index=redemption.index,
        )
        return await self._connection.write(statement.on_conflict_do_nothing()) == 1

    async def find(self, tenant_id: TenantId, receipt_of: UUID) -> Redemption | None:
        """See `Redemptions`."""
        found = await self._connection.every(
            _FIND, _read, tenant_id=tenant_id, decision_id=receipt_of
        )
        return found[0] if found else None

    async def purge(self, now: datetime, limit: int) -> int:
        """See `Redemptions`."""
        return await self._connection.delete_some(
            redemptions, redemptions.c.forget_at <= now, limit
        )


def _read(row: Row[Any]) -> Redemption:
    return Redemption(row.redeemed_by, row.redeemed_at, row.request_id, row.check_index)
