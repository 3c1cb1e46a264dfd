"""`RevokeElevations`: end one session's elevation at sign-out, or all of a user's."""

from dataclasses import dataclass
from enum import Enum, unique

from stepup.domain.audit import EventKind
from stepup.domain.changes import SessionRevoked, UserRevoked
from stepup.service.calls.context import Context
from stepup.service.ports import Database
from stepup.service.step_up.revoker import Revoker


@unique
class Scope(Enum):
    """Which of a user's elevations end."""

    SESSION = "session"
    USER = "user"


@dataclass(frozen=True, slots=True)
class RevokeElevations:
    """Ends elevations, and the wizards that were open in the same sessions."""

    database: Database
    revoker: Revoker
    back_steps: int = 0

    async def __call__(self, context: Context, scope: Scope) -> None:
        """Revoke durably; everything verified up to now is void.

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
            await records.pending.remove(actor.tenant_id, actor.user_id, session)
            await records.changes.announce(change, now)
            await records.audit.append(
                context.event(EventKind.ELEVATIONS_REVOKED, scope=scope.value)
            )
        await self.revoker.put_into_effect(change, now)
