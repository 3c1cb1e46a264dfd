"""Calls within a portal session: the session's limits, its person, and both callers' rules (S20).

The web process is a caller that can do nothing by itself. Each of its calls names a portal session,
which a backend opened for one person. The session says who acts, and its page limits what the call
reaches. Both callers must be permitted to make the call: see `Call`.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from stepup.domain.callers import Caller
from stepup.domain.errors import (
    CallerNotPermittedError,
    InvalidFieldError,
    PortalSessionError,
    RoleRequiredError,
)
from stepup.domain.portal import (
    LIST_PEOPLE,
    OF_CHALLENGE,
    OF_READERS,
    OF_WIZARD,
    REDEEM,
    PortalPage,
    PortalSession,
)
from stepup.rpc.engine import Invocation
from stepup.rpc.wire.actors import message_of
from stepup.service.portal.resolve import ResolvePortalSession
from stepup.service.portal.wizard_of_challenge import DemandNoAuthenticator

SESSION_METADATA: Final = "stepup-portal-session"
"""The metadata with the id of a session. It is a credential: no log has it (S11)."""
_MAX_ID_CHARACTERS: Final = 128


class InPortal(NamedTuple):
    """What a call within a portal session knows beside its actor.

    Args:
        session_id: as good as a credential.
        opened_by: the caller that created the session, with the rules that it has now.
    """

    session_id: str
    session: PortalSession
    opened_by: Caller

    @property
    def fields(self) -> dict[str, str]:
        """What the finish line of the call says about the session (S11)."""
        return {"opened_by": self.session.opened_by, "page": self.session.page.value}


class PortalCalls:
    """Brings the person of a portal session into the requests of the web process.

    Args:
        resolve: finds the session of an id.
        demand_no_authenticator: what the page of a challenge needs for the wizard.
        find_caller: finds a caller of today's settings by its name.
    """

    def __init__(
        self,
        resolve: ResolvePortalSession,
        demand_no_authenticator: DemandNoAuthenticator,
        find_caller: Callable[[str], Caller | None],
    ) -> None:
        self._resolve = resolve
        self._demand_no_authenticator = demand_no_authenticator
        self._find_caller = find_caller

    async def enter(
        self, caller: Caller, method: str, invocation: Invocation, request: Any, now: datetime
    ) -> InPortal | None:
        """Bring the session's person into a request; None if the call is outside a session.

        Args:
            caller: the caller.
            method: the method, by its name in the rules of callers.
            invocation: has the metadata.
            request: the message. Its actor and tenant, which are absent, become the session's.
            now: when the call was received.

        Raises:
            CallerNotPermittedError: the caller may not act within a session, or only within one;
                the page does not reach the method; or the caller that opened the session may not
                use the method.
            PortalSessionError: the session has ended.
            InvalidFieldError: the request names an actor, another tenant or another challenge.
            RoleRequiredError: the method needs a Master Administrator.
            StoreUnavailableError: the session cannot be read.
        """
        session_id = session_id_of(invocation)
        if session_id is None:
            _demand_outside(caller, method)
            return None
        if not (caller.is_portal or caller.is_anonymous):
            raise CallerNotPermittedError(
                f"{caller.caller_id} may not act within portal sessions: it is not the web process"
            )
        session = await self._resolve(session_id, now)
        if not session.reaches(method):
            raise CallerNotPermittedError(f"the page {session.page} does not reach {method}")
        opened_by = self._find_caller(session.opened_by)
        if opened_by is None:
            raise CallerNotPermittedError(
                f"{session.opened_by}, which opened the portal session, is not a caller any more"
            )
        opened_by.demand_method(method)
        if method in OF_READERS and not session.actor.is_master_administrator:
            raise RoleRequiredError("this needs the role of a Master Administrator")
        _demand_limits(session, method, request)
        if session.page is PortalPage.CHALLENGE and method in OF_WIZARD:
            await self._demand_no_authenticator(session.actor)
        _bring_in(session, request)
        return InPortal(session_id, session, opened_by)


def session_id_of(invocation: Invocation) -> str | None:
    """Return the id of a portal session in the metadata; None if the metadata have none.

    Raises:
        PortalSessionError: the id is empty or too long, or occurs several times.
    """
    found = [value for name, value in invocation.metadata if name == SESSION_METADATA]
    if not found:
        return None
    [first, *others] = found
    if others or not isinstance(first, str) or not 0 < len(first) <= _MAX_ID_CHARACTERS:
        raise PortalSessionError(f"the metadata {SESSION_METADATA} must have one session id")
    return first


def _demand_outside(caller: Caller, method: str) -> None:
    """Demand that the caller may use the method outside a portal session."""
    if caller.is_portal and method != REDEEM:
        raise CallerNotPermittedError(
            f"{caller.caller_id} is the web process: {method} needs the metadata {SESSION_METADATA}"
        )
    if method == REDEEM and not (caller.is_portal or caller.is_anonymous):
        raise CallerNotPermittedError(
            f"{caller.caller_id} may not use {method}: it is not the web process"
        )


def _demand_limits(session: PortalSession, method: str, request: Any) -> None:
    """Demand that a request stays within what its session is for."""
    if session.page is PortalPage.CHALLENGE and method in OF_CHALLENGE:
        try:
            is_own = UUID(request.challenge_id) == session.challenge_id
        except ValueError:
            is_own = False
        if not is_own:
            raise InvalidFieldError("challenge_id", "must be the challenge of the portal session")
    if session.page is PortalPage.POLICY and method == LIST_PEOPLE and not request.counts_only:
        raise InvalidFieldError("counts_only", "must be true on the page of the policy")


def _bring_in(session: PortalSession, request: Any) -> None:
    """Make the session's person and tenant those of a request.

    Raises:
        InvalidFieldError: the request names an actor, or another tenant.
    """
    fields = request.DESCRIPTOR.fields_by_name
    if "actor" in fields:
        if request.HasField("actor"):
            raise InvalidFieldError("actor", "must be absent within a portal session")
        request.actor.CopyFrom(message_of(session.actor))
    if "tenant_id" in fields:
        if request.tenant_id not in ("", session.actor.tenant_id):
            raise InvalidFieldError("tenant_id", "must be absent within a portal session")
        request.tenant_id = session.actor.tenant_id
