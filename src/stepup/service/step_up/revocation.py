"""Ends elevations: at sign-out (`RevokeElevations`), and ahead of the change feed."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, unique

import structlog

from stepup.domain.audit import EventKind
from stepup.domain.changes import Revocation, SessionRevoked, UserRevoked
from stepup.domain.errors import StoreUnavailableError
from stepup.service.calls.context import Context
from stepup.service.challenges.end import revoke_challenges
from stepup.service.challenges.waits import Waits
from stepup.service.policy.snapshots import Snapshots
from stepup.service.ports import Database, Elevations

_log = structlog.get_logger(__name__)
_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Revoker:
    """Ends elevations in this worker and in Redis, after the change feed has the change.

    The revoker also wakes the waits for challenges that the revocation may have ended.

    If Redis does not answer, the revocation still takes effect everywhere within two seconds (S10).
    The failure is logged, and the sign-out succeeds.
    """

    elevations: Elevations
    snapshots: Snapshots
    waits: Waits

    async def put_into_effect(self, change: Revocation, now: datetime) -> None:
        """End what the change ends; `now` is when the call that made it was received."""
        self.snapshots.apply(change)
        self.waits.notify(change.tenant_id, change.user_id)
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


@unique
class Scope(Enum):
    """Which of a user's elevations end."""

    SESSION = "session"
    USER = "user"


@dataclass(frozen=True, slots=True)
class RevokeElevations:
    """Ends elevations, and the wizards and challenges of the same sessions."""

    database: Database
    revoker: Revoker
    back_steps: int = 0

    async def __call__(self, context: Context, scope: Scope) -> None:
        """Revoke durably: void what was verified up to now, and end the challenges of the scope.

        Raises:
            StoreUnavailableError: the revocation could not be committed.
        """
        actor, now = context.actor, context.now
        session = actor.session_hash if scope is Scope.SESSION else None
        async with self.database.transaction(actor.tenant_id) as records:
            # The authenticator, or its absence, first: everything that ends one takes its locks in
            # this order, and what an elevation permits is compared with revocations under them.
            active = await records.authenticators.find_for_update(actor.tenant_id, actor.user_id)
            # The clock that dated an elevation may be ahead of this one, which was perhaps set.
            through = max(now, active.elevated_through(self.back_steps)) if active else now
            change: SessionRevoked | UserRevoked
            if session is not None:
                change = SessionRevoked(actor.tenant_id, actor.user_id, session, through)
            else:
                change = UserRevoked(actor.tenant_id, actor.user_id, through)
            challenges = await revoke_challenges(
                records, actor.tenant_id, actor.user_id, now, session
            )
            await records.pending.remove(actor.tenant_id, actor.user_id, session)
            await records.changes.announce(change, now)
            await records.audit.append(
                context.event(
                    EventKind.ELEVATIONS_REVOKED, actor.user_id, scope=scope.value, **challenges
                )
            )
        await self.revoker.put_into_effect(change, now)
