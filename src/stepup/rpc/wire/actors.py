"""Converts actors from messages: persons, operators and deprovisioning callers."""

from ipaddress import ip_address
from typing import Any, Protocol

from stepup.domain import actor as domain
from stepup.domain.errors import InvalidFieldError
from stepup.domain.text import OperatorName, OperatorReason, UserAgent
from stepup.rpc.wire.decode import parse, parse_id, refuse_value, required, uuid
from stepup.v1 import actor_pb2, step_up_service_pb2


class HasActor(Protocol):
    """A request with an actor."""

    @property
    def actor(self) -> actor_pb2.ActorContext:
        """The person who acts."""
        ...

    def HasField(self, field_name: Any, /) -> bool:  # noqa: N802  # protobuf's name
        """Whether a message field is present."""
        ...


_ACCOUNT_TYPES = {
    actor_pb2.ACCOUNT_TYPE_UNSPECIFIED: domain.AccountType.LOCAL,
    actor_pb2.ACCOUNT_TYPE_LOCAL: domain.AccountType.LOCAL,
    actor_pb2.ACCOUNT_TYPE_SAML: domain.AccountType.SAML,
    actor_pb2.ACCOUNT_TYPE_SAML_GROUP: domain.AccountType.SAML_GROUP,
}
_ROLES = {
    actor_pb2.ROLE_UNSPECIFIED: domain.Role.OTHER,
    actor_pb2.ROLE_MASTER_ADMINISTRATOR: domain.Role.MASTER_ADMINISTRATOR,
    actor_pb2.ROLE_OTHER: domain.Role.OTHER,
}
# Of two messages with the same meaning the later one is sent, which says it.
_ACCOUNT_TYPE_MESSAGES = {kind: message for message, kind in _ACCOUNT_TYPES.items()}
_ROLE_MESSAGES = {role: message for message, role in _ROLES.items()}
_TEAMS = {
    actor_pb2.TEAM_UNSPECIFIED: domain.Team.OTHER,
    actor_pb2.TEAM_MANAGED_SERVICES_OPERATIONS: domain.Team.MANAGED_SERVICES_OPERATIONS,
    actor_pb2.TEAM_OTHER: domain.Team.OTHER,
}
_TRIGGERS = {
    actor_pb2.PLAYBOOK_TRIGGER_AUTOMATIC: domain.PlaybookTrigger.AUTOMATIC,
    actor_pb2.PLAYBOOK_TRIGGER_MANUAL: domain.PlaybookTrigger.MANUAL,
}


def actor(request: HasActor) -> domain.Actor:
    """The actor of a request.

    Raises:
        InvalidFieldError: the actor is missing, or one of its fields is not valid.
    """
    _require_actor(request)
    message = request.actor
    if message.HasField("operator"):
        raise InvalidFieldError("actor.operator", "must be absent: no operator uses this method")
    return _person("actor", message)


def actor_or_operator(request: HasActor) -> domain.Actor | domain.Operator:
    """The actor of a request that operators may send.

    Raises:
        InvalidFieldError: as `actor`; or an operator comes with a field of a person.
    """
    if not (request.HasField("actor") and request.actor.HasField("operator")):
        return actor(request)
    message = request.actor
    tenant_id = _only_tenant(message, "operator")
    return domain.Operator(
        tenant_id,
        parse("actor.operator.name", OperatorName, message.operator.name),
        parse("actor.operator.reason", OperatorReason, message.operator.reason),
    )


def demand_no_action(person: domain.Actor) -> None:
    """Demand that the actor of a request for a page has no field that can exempt an action.

    Raises:
        InvalidFieldError: the actor has one.
    """
    fields = {
        "team": person.is_managed_services,
        "playbook_run": person.playbook_run,
        "retry_receipt": person.retry_receipt,
        "challenge_id": person.challenge_id,
    }
    for field, exempts in fields.items():
        if exempts:
            raise InvalidFieldError(f"actor.{field}", "must be absent: a page runs no action")


def deprovisioning(request: HasActor) -> domain.Deprovisioning:
    """The actor of a request with the claim `deprovisioning`, which has a tenant only.

    Raises:
        InvalidFieldError: the actor is missing, or has another field.
    """
    _require_actor(request)
    return domain.Deprovisioning(_only_tenant(request.actor, "deprovisioning"))


def _only_tenant(message: actor_pb2.ActorContext, claim: str) -> domain.TenantId:
    for field, _ in message.ListFields():
        if field.name not in ("tenant_id", claim):
            raise InvalidFieldError(f"actor.{field.name}", f"must be absent with {claim}")
    return parse_id("actor.tenant_id", domain.TenantId, message.tenant_id)


def subject(request: step_up_service_pb2.ExplainStepUpRequest) -> domain.Actor:
    """The subject of an explanation.

    Raises:
        InvalidFieldError: the subject is missing, one of its fields is not valid, or it has a field
            that an explanation does not take.
    """
    required(request, "subject")
    for field in ("operator", "client", "retry_receipt"):
        if getattr(request.subject, field) != getattr(actor_pb2.ActorContext(), field):
            raise InvalidFieldError(f"subject.{field}", "must be absent")
    return _person("subject", request.subject)


def _person(path: str, message: actor_pb2.ActorContext) -> domain.Actor:
    return domain.Actor(
        tenant_id=parse_id(f"{path}.tenant_id", domain.TenantId, message.tenant_id),
        user_id=parse_id(f"{path}.user_id", domain.UserId, message.user_id),
        session_id=parse_id(f"{path}.session_id", domain.SessionId, message.session_id),
        account_type=_ACCOUNT_TYPES.get(message.account_type)
        or refuse_value(f"{path}.account_type", message.account_type),
        role=_ROLES.get(message.role) or refuse_value(f"{path}.role", message.role),
        team=_TEAMS.get(message.team) or refuse_value(f"{path}.team", message.team),
        playbook_run=(
            _playbook_run(f"{path}.playbook_run", message.playbook_run)
            if message.HasField("playbook_run")
            else None
        ),
        retry_receipt=(
            parse(f"{path}.retry_receipt", domain.RetryReceipt, message.retry_receipt)
            if message.retry_receipt
            else None
        ),
        challenge_id=uuid(f"{path}.challenge_id", message.challenge_id),
        client=device(f"{path}.client", message.client) if message.HasField("client") else None,
    )


def message_of(actor: domain.Actor) -> actor_pb2.ActorContext:
    """The message of a person without the context of an action, as `actor` reads it again."""
    return actor_pb2.ActorContext(
        tenant_id=actor.tenant_id,
        user_id=actor.user_id,
        session_id=actor.session_id,
        account_type=_ACCOUNT_TYPE_MESSAGES[actor.account_type],
        role=_ROLE_MESSAGES[actor.role],
        client=None
        if actor.client is None
        else actor_pb2.Client(address=actor.client.address, user_agent=actor.client.user_agent),
    )


def device(path: str, message: actor_pb2.Client) -> domain.Device | None:
    """The device of a person; None if nothing is known about it.

    Raises:
        InvalidFieldError: the address or the user agent is not valid.
    """
    address = message.address
    if address:
        try:
            address = str(ip_address(address))
        except ValueError as error:
            raise InvalidFieldError(f"{path}.address", "must be an IP address") from error
        if "%" in address:
            raise InvalidFieldError(f"{path}.address", "must have no zone")
    if message.user_agent:
        parse(f"{path}.user_agent", UserAgent, message.user_agent)
    known = domain.Device(address, message.user_agent)
    return None if known == domain.Device() else known


def _playbook_run(path: str, message: actor_pb2.PlaybookRun) -> domain.PlaybookRun:
    return domain.PlaybookRun(
        parse_id(f"{path}.playbook_id", domain.OpaqueId, message.playbook_id),
        parse_id(f"{path}.run_id", domain.OpaqueId, message.run_id),
        _TRIGGERS.get(message.trigger) or refuse_value(f"{path}.trigger", message.trigger),
    )


def _require_actor(request: HasActor) -> None:
    if not request.HasField("actor"):
        raise InvalidFieldError("actor", "is required")
