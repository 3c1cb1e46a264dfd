"""The change feed: what other workers have to hear of (S10)."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, insert, select

from stepup.domain.actor import SessionHash, TenantId, UserId
from stepup.domain.changes import (
    Change,
    EnrollmentEnded,
    PolicyChanged,
    SessionRevoked,
    UserRevocations,
    UserRevoked,
)
from stepup.stores.sql.connection import Connection
from stepup.stores.sql.tables import changes, of_no_session


class SqlChangeFeed:
    """Implements `ChangeFeed`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def announce(self, change: Change, now: datetime) -> None:
        """Add a change, in the transaction that makes it."""
        await self._connection.write(
            insert(changes).values(created_at=now, tenant_id=change.tenant_id, **_values(change))
        )

    async def read(self, after: int = 0) -> Sequence[tuple[int, Change]]:
        """The changes whose number is greater than `after`, in the order of numbers."""
        return await self._connection.every(
            select(changes).where(changes.c.id > after).order_by(changes.c.id),
            lambda row: (row.id, _read(row)),
        )

    async def revocations_of(self, tenant_id: TenantId, user_id: UserId) -> UserRevocations:
        """See `ChangeFeed`: one index lookup, grouped by ended enrollment."""
        columns = changes.c
        rows = await self._connection.every(
            select(
                columns.enrollment_id,
                func.max(columns.through).label("through"),
                func.max(columns.created_at).label("announced_at"),
            )
            .where(
                columns.tenant_id == tenant_id,
                columns.user_id == user_id,
                of_no_session,
                columns.kind.in_(("user_revoked", "enrollment_ended")),
            )
            .group_by(columns.enrollment_id),
            lambda row: (row.enrollment_id, row.through, row.announced_at),
        )
        ended = {id_: announced_at for id_, _, announced_at in rows if id_ is not None}
        return UserRevocations(next((row[1] for row in rows if row[0] is None), None), ended)

    async def purge(self, before: datetime) -> None:
        """Remove what was announced before an instant."""
        await self._connection.write(delete(changes).where(changes.c.created_at < before))


def _values(change: Change) -> dict[str, Any]:
    match change:
        case PolicyChanged():
            return {"kind": "policy_changed", "version": change.version}
        case UserRevoked():
            return {"kind": "user_revoked", "user_id": change.user_id, "through": change.through}
        case SessionRevoked():
            return {
                "kind": "session_revoked",
                "user_id": change.user_id,
                "session_hash": change.session_hash,
                "through": change.through,
            }
        case EnrollmentEnded():
            return {
                "kind": "enrollment_ended",
                "user_id": change.user_id,
                "enrollment_id": change.enrollment_id,
            }


def _read(row: Row[Any]) -> Change:
    tenant_id = TenantId(row.tenant_id)
    match row.kind:
        case "policy_changed":
            return PolicyChanged(tenant_id, row.version)
        case "user_revoked":
            return UserRevoked(tenant_id, UserId(row.user_id), row.through)
        case "session_revoked":
            return SessionRevoked(
                tenant_id, UserId(row.user_id), SessionHash(row.session_hash), row.through
            )
        case "enrollment_ended":
            return EnrollmentEnded(tenant_id, UserId(row.user_id), row.enrollment_id)
    # A newer worker announces what this one does not know: to go on would be to guess.
    raise ValueError("unknown kind of change")
