"""State of the portal that lives in Redis."""

from typing import Protocol

from stepup.domain.portal import PortalSession


class PortalSessions(Protocol):
    """The portal sessions, and the links that open them. All values are authenticated (S25).

    A token and a session id are secrets of 256 random bits. The store MUST keep their hashes only,
    so that who reads the store cannot use them (S20).
    """

    async def put_link(self, token: str, session: PortalSession) -> None:
        """Store a session that a token opens, for `LINK_LIFETIME`."""
        ...

    async def take_link(self, token: str) -> PortalSession | None:
        """Remove and return the session of a token, atomically: of parallel calls one gets it.

        None if the store has no such token, or its value is not authentic.
        """
        ...

    async def put(self, session_id: str, session: PortalSession) -> None:
        """Store a session under a new id, until `idle_until`."""
        ...

    async def find(self, session_id: str) -> PortalSession | None:
        """Return a session; None if the store has none, or its value is not authentic."""
        ...

    async def extend(self, session_id: str, session: PortalSession) -> None:
        """Replace a stored session by one with a later `idle_until`.

        A session that was removed meanwhile MUST stay removed.
        """
        ...

    async def remove(self, session_id: str) -> None:
        """Remove a session; without one nothing changes."""
        ...
