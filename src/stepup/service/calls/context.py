"""The context of a call, or of a command on a server's host: its actor, its caller and its time."""

from collections.abc import Mapping
from datetime import datetime
from typing import TypeAlias

from stepup.domain.actor import Actor, CallerId, Operator, Outsider, TenantId, UserId
from stepup.domain.audit import Event, EventKind, Json
from stepup.domain.callers import Grant
from stepup.domain.operations import OperationId
from stepup.domain.portal import PortalSession
from stepup.domain.values import value


@value
class Context:
    """An authorized call.

    Args:
        now: when the call was received.
        request_id: names the call in every log.
        identities: the identities that the credentials prove, sorted.
        grants: the rules that permit each operation of the call; of a call without an operation,
            under None.
        portal: the portal session within which `caller`, the web process, calls; else None.
    """

    caller: CallerId
    actor: Actor
    now: datetime
    request_id: str
    identities: tuple[str, ...]
    grants: Mapping[OperationId | None, Grant]
    portal: PortalSession | None = None

    @property
    def tenant_id(self) -> TenantId:
        """The tenant of the actor."""
        return self.actor.tenant_id

    def event(self, kind: EventKind, subject: UserId | None = None, **details: Json) -> Event:
        """An event of this call. Its subject is the actor, unless another is given."""
        through: dict[str, Json] = {}
        if self.portal is not None:
            through["portal"] = {"opened_by": self.portal.opened_by, "page": self.portal.page.value}
        return Event(
            tenant_id=self.actor.tenant_id,
            kind=kind,
            occurred_at=self.now,
            caller=self.caller,
            actor_user_id=self.actor.user_id,
            subject_user_id=subject or self.actor.user_id,
            details={
                "session": self.actor.session_hash,
                "request_id": self.request_id,
                **through,
                **details,
            },
            client=self.actor.client,
        )


@value
class OutsiderContext:
    """An authorized call in which no person of the tenant acts. Its fields are as in `Context`."""

    caller: CallerId
    actor: Outsider
    now: datetime
    request_id: str
    identities: tuple[str, ...]
    grants: Mapping[OperationId | None, Grant]

    @property
    def tenant_id(self) -> TenantId:
        """The tenant in which the actor acts."""
        return self.actor.tenant_id

    def event(self, kind: EventKind, subject: UserId | None = None, **details: Json) -> Event:
        """An event of this call. It names the operator, and has no actor of the tenant."""
        by: dict[str, Json] = {"request_id": self.request_id}
        if isinstance(self.actor, Operator):
            by["operator"] = {"name": self.actor.name, "reason": self.actor.reason}
        return Event(
            tenant_id=self.tenant_id,
            kind=kind,
            occurred_at=self.now,
            caller=self.caller,
            actor_user_id=None,
            subject_user_id=subject,
            details={**by, **details},
        )


AnyContext: TypeAlias = Context | OutsiderContext


@value
class HostContext:
    """A command that somebody runs on the host of a server. No call and no person of the tenant.

    Args:
        caller: names the command in its events.
        os_user: the user of the operating system.
        host: the name of the machine.
    """

    caller: CallerId
    tenant_id: TenantId
    now: datetime
    os_user: str
    host: str

    def event(self, kind: EventKind, subject: UserId | None = None, **details: Json) -> Event:
        """An event of this command. It names the user and the host of the machine."""
        return Event(
            tenant_id=self.tenant_id,
            kind=kind,
            occurred_at=self.now,
            caller=self.caller,
            actor_user_id=None,
            subject_user_id=subject,
            details={"os_user": self.os_user, "host": self.host, **details},
        )


EventContext: TypeAlias = AnyContext | HostContext
"""All that can make events."""
