"""`CreatePortalSession`: open a page for a person that a backend has signed in."""

from dataclasses import dataclass
from datetime import datetime
from secrets import token_urlsafe
from typing import Final
from uuid import UUID

from stepup.domain.audit import EventKind, Json
from stepup.domain.errors import NoPortalError
from stepup.domain.origins import WebOrigin, origin_of
from stepup.domain.portal import LINK_LIFETIME, Locale, PortalPage, PortalSession, TimeZone
from stepup.domain.totp import Label
from stepup.domain.values import secret_value, value
from stepup.service.calls.context import Context
from stepup.service.ports import Database, PortalSessions

SECRET_BYTES: Final = 32
"""The length of a token and of a session id: 256 bits (S20)."""


@value
class NewPortalSession:
    """The page that a caller opens, and how it looks; its fields are as in `PortalSession`."""

    page: PortalPage
    challenge_id: UUID | None
    return_url: str
    locale: Locale | None = None
    time_zone: TimeZone | None = None
    account_name: Label | None = None


@secret_value
class Link:
    """The address of a session. It opens the session once, until `expires_at`."""

    url: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class CreatePortalSession:
    """Creates links to pages at `public_url`; None means that the deployment has no portal."""

    sessions: PortalSessions
    database: Database
    public_url: WebOrigin | None

    async def __call__(self, context: Context, new: NewPortalSession, title: str) -> Link:
        """Create a link, after its event is on record.

        Args:
            context: the call of the backend, for the person.
            new: the page. The caller may open it, and may send people to its `return_url`.
            title: the name by which people know the caller.

        Raises:
            NoPortalError: the deployment has no portal.
            RoleRequiredError: the page is for Master Administrators, and the actor is none.
            StoreUnavailableError: there is no link. An event may be on record.
        """
        if self.public_url is None:
            raise NoPortalError("the deployment has no portal: portal.public_url is not set")
        if new.page.needs_role:
            context.actor.require_master_administrator()
        expires_at = context.now + LINK_LIFETIME
        session = PortalSession(
            opened_by=context.caller,
            opened_by_title=title,
            actor=context.actor,
            page=new.page,
            challenge_id=new.challenge_id,
            return_url=new.return_url,
            locale=new.locale,
            time_zone=new.time_zone,
            account_name=new.account_name,
            created_at=context.now,
            idle_until=expires_at,
        )
        async with self.database.transaction(context.tenant_id) as records:
            await records.audit.append(
                context.event(
                    EventKind.PORTAL_SESSION_CREATED, context.actor.user_id, **facts_of(session)
                )
            )
        token = token_urlsafe(SECRET_BYTES)
        await self.sessions.put_link(token, session)
        return Link(f"{self.public_url}/open/{token}", expires_at)


def facts_of(session: PortalSession) -> dict[str, Json]:
    """The details of a session's events: of the return_url its origin, which has no secret."""
    return {
        "page": session.page.value,
        "challenge_id": None if session.challenge_id is None else str(session.challenge_id),
        "return_origin": origin_of(session.return_url),
    }
