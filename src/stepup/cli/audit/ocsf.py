"""Audit events in the Open Cybersecurity Schema Framework, version 1.3.0.

The classes are Authentication (3002) for attempts with codes, Account Change (3001) for changes of
a person's authenticator, and API Activity (6003) for everything else. Facts for which OCSF has no
attribute are in `unmapped`, so that no fact of an event is lost.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum

from stepup.domain.audit import ChainedEvent, Event, EventKind, Json, written
from stepup.domain.instants import EPOCH
from stepup.system import distribution

VERSION = "1.3.0"
_PRODUCT = "stepup"
_MILLISECOND = timedelta(milliseconds=1)


class _OcsfStatus(IntEnum):
    SUCCESS = 1
    FAILURE = 2


class _Severity(IntEnum):
    INFORMATIONAL = 1
    LOW = 2
    MEDIUM = 3
    HIGH = 4


@dataclass(frozen=True, slots=True)
class _Class:
    uid: int
    name: str
    category_uid: int
    category_name: str


@dataclass(frozen=True, slots=True)
class _Activity:
    """The class, activity and status of a kind of event in OCSF."""

    of: _Class
    id: int
    name: str
    message: str
    status: _OcsfStatus = _OcsfStatus.SUCCESS


_IAM = (3, "Identity & Access Management")
_AUTHENTICATION = _Class(3002, "Authentication", *_IAM)
_ACCOUNT_CHANGE = _Class(3001, "Account Change", *_IAM)
_API = _Class(6003, "API Activity", 6, "Application Activity")
_OTHER = 99


def _refused(message: str) -> _Activity:
    return _Activity(_AUTHENTICATION, 1, "Logon", message, _OcsfStatus.FAILURE)


def _enabled(message: str, status: _OcsfStatus = _OcsfStatus.SUCCESS) -> _Activity:
    return _Activity(_ACCOUNT_CHANGE, 10, "MFA Factor Enable", message, status)


def _disabled(message: str) -> _Activity:
    return _Activity(_ACCOUNT_CHANGE, 11, "MFA Factor Disable", message)


def _unlocked(message: str) -> _Activity:
    return _Activity(_ACCOUNT_CHANGE, _OTHER, "Unlock", message)


def _forgotten(message: str) -> _Activity:
    return _Activity(_ACCOUNT_CHANGE, 6, "Delete", message)


def _wizard(step: str, message: str) -> _Activity:
    return _Activity(_ACCOUNT_CHANGE, _OTHER, f"MFA Factor Enrollment {step}", message)


_ACTIVITIES: Mapping[EventKind, _Activity] = {
    EventKind.OTP_VERIFIED: _Activity(_AUTHENTICATION, 1, "Logon", "A one-time code was verified"),
    EventKind.OTP_REJECTED: _refused("A one-time code was rejected"),
    EventKind.RESET_CODE_REJECTED: _refused("A reset code was rejected"),
    EventKind.ATTEMPTS_REFUSED: _refused("Attempts were refused without a look at their codes"),
    EventKind.ENROLLMENT_BEGUN: _wizard("Begun", "The enrollment of an authenticator was begun"),
    EventKind.ENROLLMENT_CONFIRMED: _wizard("Confirmed", "A code of a new authenticator was right"),
    EventKind.ENROLLMENT_CANCELLED: _wizard(
        "Cancelled", "The enrollment of an authenticator was cancelled"
    ),
    EventKind.ENROLLMENT_REJECTED: _enabled(
        "The first code of a new authenticator was wrong", _OcsfStatus.FAILURE
    ),
    EventKind.ENROLLMENT_COMPLETED: _enabled("An authenticator became active"),
    EventKind.AUTHENTICATOR_REMOVED: _disabled("A user removed the own authenticator"),
    EventKind.AUTHENTICATOR_RESET: _disabled("A reset code removed an authenticator"),
    EventKind.AUTHENTICATOR_RESET_BY_ADMINISTRATOR: _disabled(
        "An administrator removed a user's authenticator"
    ),
    EventKind.AUTHENTICATOR_RESET_BY_OPERATOR: _disabled(
        "An operator removed a user's authenticator"
    ),
    EventKind.AUTHENTICATOR_RESET_BY_BREAK_GLASS: _disabled(
        "stepup break-glass removed a user's authenticator"
    ),
    EventKind.AUTHENTICATOR_IMPORTED: _enabled("An authenticator was imported"),
    EventKind.RESET_CODE_ISSUED: _Activity(
        _ACCOUNT_CHANGE, _OTHER, "Reset Code Issue", "A user got a new reset code"
    ),
    EventKind.USER_UNLOCKED: _unlocked("An administrator ended a user's lock"),
    EventKind.USER_UNLOCKED_BY_OPERATOR: _unlocked("An operator ended a user's lock"),
    EventKind.USER_FORGOTTEN: _forgotten("An administrator forgot a user"),
    EventKind.USER_FORGOTTEN_BY_OPERATOR: _forgotten("An operator forgot a user"),
    EventKind.USER_DEPROVISIONED: _forgotten("A caller that provisions users forgot a user"),
    EventKind.POLICY_CHANGED: _Activity(_API, 3, "Update", "The step-up policy was changed"),
    EventKind.POLICY_CHANGED_BY_OPERATOR: _Activity(
        _API, 3, "Update", "An operator changed the step-up policy"
    ),
    EventKind.ELEVATIONS_REVOKED: _Activity(_API, 4, "Delete", "Elevations were revoked"),
    EventKind.ELEVATIONS_REVOKED_BY_OPERATOR: _Activity(
        _API, 4, "Delete", "An operator revoked elevations"
    ),
    EventKind.OPERATOR_READ: _Activity(_API, 2, "Read", "An operator read about people"),
    EventKind.AUDIT_PRUNED: _Activity(_API, 4, "Delete", "The oldest audit events were deleted"),
    EventKind.RECEIPT_REDEEMED: _Activity(_API, _OTHER, "Redeem", "A retry receipt was redeemed"),
    EventKind.CLAIM_REFUSED: _Activity(
        _API,
        _OTHER,
        "Refuse",
        "A caller asserted a claim that it may not assert",
        _OcsfStatus.FAILURE,
    ),
    EventKind.ACCOUNT_MFA_CHANGED: _enabled("MFA was turned on for an account"),
    EventKind.CHALLENGE_APPROVED: _Activity(
        _AUTHENTICATION, 1, "Logon", "A one-time code approved a challenge"
    ),
    EventKind.CHALLENGE_CREATED: _Activity(_API, 1, "Create", "A challenge was created"),
    EventKind.CHALLENGE_DECLINED: _Activity(_API, 3, "Update", "A person declined a challenge"),
    EventKind.CHALLENGE_CANCELLED: _Activity(_API, 3, "Update", "A caller cancelled a challenge"),
    EventKind.CHALLENGE_CANCELLED_BY_OPERATOR: _Activity(
        _API, 3, "Update", "An operator cancelled a challenge"
    ),
    EventKind.CHALLENGE_EXPIRED: _Activity(_API, 3, "Update", "A challenge was not answered"),
    EventKind.CHALLENGE_ITEM_USED: _Activity(
        _API, _OTHER, "Use", "An item of a challenge allowed an action"
    ),
    EventKind.PORTAL_SESSION_CREATED: _Activity(
        _API, 1, "Create", "A caller opened a page of the portal for a person"
    ),
    EventKind.PORTAL_SESSION_OPENED: _Activity(
        _API, _OTHER, "Redeem", "A browser opened the link of a portal session"
    ),
    EventKind.PORTAL_SESSION_ENDED: _Activity(_API, 4, "Delete", "A person left the portal"),
}
_CHALLENGE_CALLS: Mapping[EventKind, str] = {
    EventKind.CHALLENGE_CREATED: "CreateChallenge",
    EventKind.CHALLENGE_DECLINED: "DeclineChallenge",
    EventKind.CHALLENGE_CANCELLED: "CancelChallenge",
    EventKind.CHALLENGE_CANCELLED_BY_OPERATOR: "CancelChallenge",
    # No call ends the challenge: its time does, which CreateChallenge has set.
    EventKind.CHALLENGE_EXPIRED: "CreateChallenge",
    EventKind.CHALLENGE_ITEM_USED: "CheckStepUp",
}
_PORTAL_CALLS: Mapping[EventKind, str] = {
    EventKind.PORTAL_SESSION_CREATED: "CreatePortalSession",
    EventKind.PORTAL_SESSION_OPENED: "RedeemPortalSession",
    EventKind.PORTAL_SESSION_ENDED: "EndPortalSession",
}
_ALARMING = frozenset({EventKind.CLAIM_REFUSED, EventKind.AUTHENTICATOR_RESET_BY_BREAK_GLASS})
_ACCOUNT_MFA_OFF = _disabled("MFA was turned off for an account")


def ocsf(chained: ChainedEvent) -> Mapping[str, Json]:
    """Write an event of the audit trail as an OCSF event."""
    event = chained.event
    activity = _activity(event)
    return {
        **_classification(activity, _severity(event, activity)),
        **_circumstances(chained),
        **_object(event, activity.of),
    }


def _activity(event: Event) -> _Activity:
    if event.kind is EventKind.ACCOUNT_MFA_CHANGED and not event.details.get("enabled"):
        return _ACCOUNT_MFA_OFF
    return _ACTIVITIES[event.kind]


def _severity(event: Event, activity: _Activity) -> _Severity:
    if event.kind in _ALARMING or event.details.get("suspended"):
        return _Severity.HIGH
    if activity.status is _OcsfStatus.SUCCESS:
        return _Severity.INFORMATIONAL
    return _Severity.MEDIUM if event.details.get("locked_until") else _Severity.LOW


def _classification(activity: _Activity, severity: _Severity) -> Mapping[str, Json]:
    of = activity.of
    return {
        "category_uid": of.category_uid,
        "category_name": of.category_name,
        "class_uid": of.uid,
        "class_name": of.name,
        "activity_id": activity.id,
        "activity_name": activity.name,
        "type_uid": of.uid * 100 + activity.id,
        "type_name": f"{of.name}: {activity.name if activity.id != _OTHER else 'Other'}",
        "severity_id": severity.value,
        "severity": severity.name.capitalize(),
        "status_id": activity.status.value,
        "status": activity.status.name.capitalize(),
        "message": activity.message,
    }


def _circumstances(chained: ChainedEvent) -> dict[str, Json]:
    event = chained.event
    actor: dict[str, Json] = {"app_name": event.caller}
    person = _acting_person(event)
    if person is not None:
        actor["user"] = person
    session = event.details.get("session")
    if session is not None:
        actor["session"] = {"uid": session}
    metadata: dict[str, Json] = {
        "version": VERSION,
        "product": {"name": _PRODUCT, "vendor_name": _PRODUCT, "version": distribution.version()},
        "log_name": "audit",
        "uid": event.event_id,
        "sequence": chained.sequence,
        "tenant_uid": event.tenant_id,
        "event_code": event.kind.value,
        "original_time": written(event.occurred_at),
    }
    request_id = event.details.get("request_id")
    if request_id is not None:
        metadata["correlation_uid"] = request_id
    found: dict[str, Json] = {
        "time": (event.occurred_at - EPOCH) // _MILLISECOND,
        "metadata": metadata,
        "actor": actor,
        "src_endpoint": {"svc_name": event.caller},
        "unmapped": {
            "details": event.details,
            "previous_hash": chained.previous_hash.hex(),
            "hash": chained.hash.hex(),
        },
    }
    if "cause" in event.details:
        found["status_detail"] = event.details["cause"]
    return found


def _acting_person(event: Event) -> Json:
    """The user of the tenant or the operator who acted; None if a program or a host command did."""
    if event.actor_user_id is not None:
        return {"uid": event.actor_user_id}
    match event.details.get("operator"):
        case {"name": str(name)}:
            return {"name": name, "type": "Operator"}
        case _:
            return None


def _object(event: Event, of: _Class) -> Mapping[str, Json]:
    """The object of an event, in the attributes of its class."""
    user: Json = {"uid": event.subject_user_id or event.actor_user_id}
    if of is _ACCOUNT_CHANGE:
        return {"user": user}
    if of is _AUTHENTICATION:
        by_reset_code = (
            event.kind is EventKind.RESET_CODE_REJECTED or event.details.get("codes") == "reset"
        )
        return {
            "user": user,
            "service": {"name": _PRODUCT},
            "is_mfa": True,
            "auth_protocol_id": _OTHER,
            "auth_protocol": "Reset code" if by_reset_code else "TOTP",
        }
    operation, resource, named = _call(event)
    return {
        "api": {"operation": operation, "service": {"name": _PRODUCT}},
        "resources": [{"type": resource, "uid": named}],
    }


def _call(event: Event) -> tuple[Json, str, Json]:
    """The RPC, and the type and name of its object."""
    match event.kind:
        case EventKind.POLICY_CHANGED | EventKind.POLICY_CHANGED_BY_OPERATOR:
            return "UpdatePolicy", "policy", event.tenant_id
        case EventKind.RECEIPT_REDEEMED:
            return "CheckStepUp", "receipt", event.details["redeemed_decision_id"]
        case EventKind.CLAIM_REFUSED:
            return event.details["method"], "claim", event.details["claim"]
        case EventKind.OPERATOR_READ if event.subject_user_id:
            return event.details["method"], "user", event.subject_user_id
        case EventKind.OPERATOR_READ:
            return event.details["method"], "users", event.tenant_id
        case EventKind.AUDIT_PRUNED:
            return "stepup audit prune", "audit events", event.tenant_id
        case kind if kind in _CHALLENGE_CALLS:
            return _CHALLENGE_CALLS[kind], "challenge", event.details["challenge_id"]
        case kind if kind in _PORTAL_CALLS:
            return _PORTAL_CALLS[kind], "portal session", event.subject_user_id
        case _:
            return "RevokeElevations", "elevations", event.subject_user_id
