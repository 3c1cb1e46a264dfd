"""Puts a committed revocation into effect at once, ahead of the change feed."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from stepup.domain.changes import SessionRevoked, UserRevoked
from stepup.domain.errors import StoreUnavailableError
from stepup.domain.revocations import Revocation
from stepup.service.policy.snapshots import Snapshots
from stepup.service.ports import Elevations

_log = structlog.get_logger(__name__)
_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Revoker:
    """Ends elevations in this worker and in Redis, after the change feed has the change.

    If Redis does not answer, the revocation still takes effect everywhere within two seconds (S10).
    The failure is logged, and the sign-out succeeds.
    """

    elevations: Elevations
    snapshots: Snapshots

    async def put_into_effect(self, change: Revocation, now: datetime) -> None:
        """End what the change ends; `now` is when the call that made it was received."""
        self.snapshots.apply(change)
        try:
            match change:
                case SessionRevoked(tenant_id, user_id, session_hash):
                    await self.elevations.revoke_session(tenant_id, user_id, session_hash)
                case UserRevoked(tenant_id, user_id, through):
                    await self.elevations.revoke_user(tenant_id, user_id, through)
                case ended:
                    # Strictly before now: completing a replacement elevates at this very instant.
                    await self.elevations.revoke_user(
                        ended.tenant_id, ended.user_id, now - _INSTANT
                    )
        except StoreUnavailableError:
            _log.warning("revocation_left_to_the_change_feed", change=type(change).__name__)
