"""From the id of a portal session to the person, on each call of the web process (S10, S20)."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from stepup.domain.errors import PortalSessionError
from stepup.domain.portal import IDLE_LIFETIME, PortalSession
from stepup.service.ports import Database, PortalSessions

EXTEND_AFTER: Final = timedelta(seconds=60)
"""How often, at most, use of a session is written to Redis."""


@dataclass(frozen=True, slots=True)
class ResolvePortalSession:
    """Finds a session by its id, and counts the call as use of the session."""

    sessions: PortalSessions
    database: Database

    async def __call__(self, session_id: str, now: datetime) -> PortalSession:
        """The session of an id, unless the session has ended or is revoked.

        Revocations are read from SQL for each call, so that a session that Redis kept, or got
        back, ends at once.

        Args:
            session_id: the value of the metadata `stepup-portal-session`, as it came.
            now: when the call was received.

        Raises:
            PortalSessionError: the id is unknown, or its session has ended.
            StoreUnavailableError: Redis or SQL cannot be asked.
        """
        session = await self.sessions.find(session_id)
        if session is None or not session.is_live(now):
            raise ended()
        await demand_unrevoked(self.database, session)
        idle_until = now + IDLE_LIFETIME
        if idle_until - session.idle_until < EXTEND_AFTER:
            return session
        session = replace(session, idle_until=idle_until)
        await self.sessions.extend(session_id, session)
        return session


async def demand_unrevoked(database: Database, session: PortalSession) -> None:
    """Refuse a session whose user, or the session that it was created in, was revoked since (S10).

    Raises:
        PortalSessionError: it was revoked.
        StoreUnavailableError: SQL cannot be asked.
    """
    actor = session.actor
    async with database.snapshot(actor.tenant_id) as records:
        revocations = await records.changes.revocations_of(
            actor.tenant_id, actor.user_id, actor.session_hash
        )
    if session.is_revoked(revocations):
        raise ended()


def ended() -> PortalSessionError:
    """The one answer for each token and id that opens nothing, whatever the reason."""
    return PortalSessionError(
        "the portal session is unknown or has ended: ask the backend for a new one"
        " (CreatePortalSession)"
    )
