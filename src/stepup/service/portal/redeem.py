"""`RedeemPortalSession`: exchange the token of a link for a session, once."""

from dataclasses import dataclass, replace
from datetime import datetime
from secrets import token_urlsafe

from stepup.domain.actor import CallerId, Device
from stepup.domain.audit import Event, EventKind
from stepup.domain.portal import IDLE_LIFETIME, PortalSession
from stepup.service.portal.create import SECRET_BYTES, facts_of
from stepup.service.portal.resolve import demand_unrevoked, ended
from stepup.service.ports import Database, PortalSessions


@dataclass(frozen=True, slots=True)
class RedeemPortalSession:
    """Opens links in two steps: the first finds the tenant, which the rules of the caller grant."""

    sessions: PortalSessions
    database: Database

    async def take(self, token: str, now: datetime) -> PortalSession:
        """Use a link up, and return its session, which is not open yet.

        Raises:
            PortalSessionError: the token is unknown, used or old, or its session is revoked.
            StoreUnavailableError: Redis or SQL cannot be asked. The link may be used up.
        """
        session = await self.sessions.take_link(token)
        # A link that was put back into Redis has its old end (S25).
        if session is None or not session.is_live(now):
            raise ended()
        await demand_unrevoked(self.database, session)
        return session

    async def open(
        self,
        taken: PortalSession,
        device: Device | None,
        *,
        caller: CallerId,
        request_id: str,
        now: datetime,
    ) -> tuple[str, PortalSession]:
        """Open a session that `take` has returned, after its event is on record.

        Args:
            taken: the session.
            device: the device of the browser; None means the device that the backend saw.
            caller: the web process.
            request_id: names the call in every log.
            now: when the call was received.

        Returns:
            The new id of the session, which is as good as a credential, and the session.

        Raises:
            StoreUnavailableError: the session is not open, and its link is used up.
        """
        actor = replace(taken.actor, client=device or taken.actor.client)
        session = replace(taken, actor=actor, idle_until=now + IDLE_LIFETIME)
        event = Event(
            tenant_id=actor.tenant_id,
            kind=EventKind.PORTAL_SESSION_OPENED,
            occurred_at=now,
            caller=caller,
            actor_user_id=actor.user_id,
            subject_user_id=actor.user_id,
            details={
                "session": actor.session_hash,
                "request_id": request_id,
                "opened_by": session.opened_by,
                **facts_of(session),
            },
            client=actor.client,
        )
        async with self.database.transaction(actor.tenant_id) as records:
            await records.audit.append(event)
        session_id = token_urlsafe(SECRET_BYTES)
        await self.sessions.put(session_id, session)
        return session_id, session
