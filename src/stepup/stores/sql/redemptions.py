"""The receipts that retries have used."""

from datetime import datetime
from uuid import UUID

from stepup.domain.actor import TenantId
from stepup.stores.sql.connection import Connection
from stepup.stores.sql.tables import redemptions


class SqlRedemptions:
    """Implements `Redemptions`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def redeem(self, tenant_id: TenantId, decision_id: UUID, forget_at: datetime) -> bool:
        """Use a receipt up; False when it was used before. Of parallel retries one wins."""
        statement = self._connection.insert(redemptions).values(
            tenant_id=tenant_id, decision_id=decision_id, forget_at=forget_at
        )
        return await self._connection.write(statement.on_conflict_do_nothing()) == 1

    async def purge(self, now: datetime, limit: int) -> int:
        """See `Redemptions`."""
        return await self._connection.delete_some(
            redemptions, redemptions.c.forget_at <= now, limit
        )
