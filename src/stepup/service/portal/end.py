"""`EndPortalSession`: the person leaves the portal."""

from dataclasses import dataclass

from stepup.domain.audit import EventKind
from stepup.domain.portal import PortalSession
from stepup.service.calls.context import Context
from stepup.service.portal.create import facts_of
from stepup.service.ports import Database, PortalSessions


@dataclass(frozen=True, slots=True)
class EndPortalSession:
    """Ends sessions."""

    sessions: PortalSessions
    database: Database

    async def __call__(self, context: Context, session_id: str, session: PortalSession) -> None:
        """End a session, after its event is on record.

        Raises:
            StoreUnavailableError: the session has not ended. An event may be on record.
        """
        async with self.database.transaction(context.tenant_id) as records:
            await records.audit.append(
                context.event(
                    EventKind.PORTAL_SESSION_ENDED,
                    context.actor.user_id,
                    opened_by=session.opened_by,
                    **facts_of(session),
                )
            )
        await self.sessions.remove(session_id)
