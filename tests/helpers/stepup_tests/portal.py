"""Portal sessions for tests."""

from dataclasses import replace

from stepup.domain.portal import IDLE_LIFETIME, PortalPage, PortalSession
from stepup.service.portal.create import NewPortalSession
from stepup_tests.people import CALLER, person

RETURN_URL = "https://console.example/settings?tab=2"


def new_session(page=PortalPage.ACCOUNT, *, challenge_id=None, **fields):
    """What a backend asks for to open a page."""
    return NewPortalSession(page, challenge_id, RETURN_URL, **fields)


def portal_session(created_at, *, actor=None, page=PortalPage.ACCOUNT, **fields):
    """A session that a backend has just created, with a life until its idle end."""
    session = PortalSession(
        opened_by=CALLER,
        opened_by_title="Console",
        actor=actor or person(),
        page=page,
        challenge_id=None,
        return_url=RETURN_URL,
        locale=None,
        time_zone=None,
        account_name=None,
        created_at=created_at,
        idle_until=created_at + IDLE_LIFETIME,
    )
    return replace(session, **fields)
