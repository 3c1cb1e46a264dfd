"""Calls within a portal session: the session's limits, its person, and both callers' rules (S20).

The web process is a caller that can do nothing by itself. Each of its calls names a portal session,
which a backend opened for one person. The session says who acts, and its page limits what the call
reaches. Both callers must be permitted to make the call: see `Call`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from stepup.domain.callers import Caller
from stepup.domain.errors import (
    CallerNotPermittedError,
    InvalidFieldError,
    PortalSessionError,
)
from stepup.domain.origins import origin_of
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
from stepup.service.portal.resolve import ResolvePortalSession, ended
from stepup.service.portal.wizard_of_challenge import DemandNoAuthenticator

SESSION_METADATA: Final = "stepup-portal-session"
"""The metadata with the id of a session. It is a credential: no log has it (S11)."""
_MAX_ID_CHARACTERS: Final = 128
RESOLVED_FOR: Final = timedelta(seconds=1)
"""How long a stream may answer before its session is resolved again."""


@dataclass(slots=True, repr=False)
class InPortal:
    """What a call within a portal session knows beside its actor. No repr shows it (S11).

    Args:
        session_id: as good as a credential.
        opened_by: the caller that created the session, with the rules that it has now.
        resolved_at: when the session was found, and was live.
    """

    session_id: str
    session: PortalSession
    opened_by: Caller
    resolved_at: datetime

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

    async def find(
        self, caller: Caller, method: str, invocation: Invocation, now: datetime
    ) -> InPortal | None:
        """Find the portal session of a call; None if the call is outside a session.

        Args:
            caller: the caller.
            method: the method, by its name in the rules of callers.
            invocation: has the metadata.
            now: when the call was received.

        Raises:
            CallerNotPermittedError: the caller may not act within a session, or only within one; or
                the caller that opened the session is not a caller any more.
            PortalSessionError: the session has ended, or the settings have its return_url's origin
                no longer (S21).
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
        opened_by = self._find_caller(session.opened_by)
        if opened_by is None:
            raise CallerNotPermittedError(
                f"{session.opened_by}, which opened the portal session, is not a caller any more"
            )
        if not opened_by.may_return_to(origin_of(session.return_url)):
            raise ended()
        return InPortal(session_id, session, opened_by, now)

    async def bring_in(self, portal: InPortal, caller: Caller, method: str, request: Any) -> None:
        """Limit a call to its session and to the rules of both callers, and fill in the person.

        `Call.authorize_and_charge` checks the claims of the person.

        Args:
            portal: what `find` has returned.
            caller: the web process.
            method: the method, by its name in the rules of callers.
            request: the message. Its actor and tenant, which are absent, become the session's.

        Raises:
            CallerNotPermittedError: the page does not reach the method; or one of the callers may
                not use it for the tenant.
            InvalidFieldError: the request names an actor, another tenant or another challenge.
            RoleRequiredError: the method needs a Master Administrator.
            StoreUnavailableError: the authenticator cannot be read.
        """
        session = portal.session
        if not session.reaches(method):
            raise CallerNotPermittedError(f"the page {session.page} does not reach {method}")
        caller.demand(method, session.actor.tenant_id, None)
        portal.opened_by.demand(method, session.actor.tenant_id, None)
        if method in OF_READERS:
            session.actor.require_master_administrator()
        _demand_limits(session, method, request)
        if session.page is PortalPage.CHALLENGE and method in OF_WIZARD:
            await self._demand_no_authenticator(session.actor)
        _fill_in(session, request)

    async def demand_live(self, portal: InPortal, now: datetime) -> None:
        """Resolve the session of a stream again, at most every second, before the stream answers.

        Raises:
            PortalSessionError: the session has ended since.
            StoreUnavailableError: the session cannot be read.
        """
        if now - portal.resolved_at >= RESOLVED_FOR:
            await self._resolve(portal.session_id, now)
            portal.resolved_at = now


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


def _fill_in(session: PortalSession, request: Any) -> None:
    """Make the session's person, tenant and account name those of a request.

    Raises:
        InvalidFieldError: the request has a field that says who acts, or names another tenant.
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
    for name in ("account_name", "deprovisioning"):
        if name in fields and getattr(request, name):
            raise InvalidFieldError(name, "must be absent within a portal session")
    if "account_name" in fields and session.account_name is not None:
        request.account_name = session.account_name
