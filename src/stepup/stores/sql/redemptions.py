"""The receipts that retries have used."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, bindparam, select

from stepup.domain.actor import TenantId
from stepup.domain.receipts import Redemption
from stepup.stores.sql.connection import Repository
from stepup.stores.sql.tables import redemptions

_FIND = select(redemptions).where(
    redemptions.c.tenant_id == bindparam("tenant_id"),
    redemptions.c.decision_id == bindparam("decision_id"),
    redemptions.c.redeemed_by.is_not(None),
)


class SqlRedemptions(Repository):
    """Implements `Redemptions`."""

    async def redeem(
        self, tenant_id: TenantId, receipt_of: UUID, redemption: Redemption, forget_at: datetime
    ) -> bool:
        return await self._connection.insert_if_absent(
            redemptions,
            tenant_id=tenant_id,
            decision_id=receipt_of,
            forget_at=forget_at,
            redeemed_by=redemption.decision_id,
            redeemed_at=redemption.redeemed_at,
            request_id=redemption.request_id,
            check_index=redemption.index,
        )

    async def find(self, tenant_id: TenantId, receipt_of: UUID) -> Redemption | None:
        return await self._connection.fetch_first(
            _FIND, _read, tenant_id=tenant_id, decision_id=receipt_of
        )

    async def purge(self, now: datetime, limit: int) -> int:
        return await self._connection.delete_some(
            redemptions, redemptions.c.forget_at <= now, limit
        )


def _read(row: Row[Any]) -> Redemption:
    return Redemption(row.redeemed_by, row.redeemed_at, row.request_id, row.check_index)
