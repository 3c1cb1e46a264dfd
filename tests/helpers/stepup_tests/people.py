"""Who calls, and for whom."""

from stepup.domain.actor import (
    Actor,
    CallerId,
    Deprovisioning,
    OpaqueId,
    Operator,
    PlaybookRun,
    PlaybookTrigger,
    Role,
    SessionId,
    TenantId,
    UserId,
)
from stepup.domain.text import OperatorName, OperatorReason

ACME = TenantId("acme")
CALLER = CallerId("response-actions")
WEB = CallerId("web")


def person(user="alice", *, tenant="acme", session="desk", **context):
    """A user in a sign-in session."""
    return Actor(TenantId(tenant), UserId(user), SessionId(session), **context)


def administrator(user="root", **context):
    """A Master Administrator in a sign-in session."""
    return person(user, role=Role.MASTER_ADMINISTRATOR, **context)


def operator(name="sam@platform.example", *, tenant="acme", reason="ticket 4711"):
    """An operator of the platform, in a tenant."""
    return Operator(TenantId(tenant), OperatorName(name), OperatorReason(reason))


def deprovisioning(tenant="acme"):
    """A program that forgets the users of a tenant who left."""
    return Deprovisioning(TenantId(tenant))


def playbook_run(trigger=PlaybookTrigger.AUTOMATIC):
    """A run of a playbook."""
    return PlaybookRun(OpaqueId("pb-1"), OpaqueId("run-1"), trigger)
