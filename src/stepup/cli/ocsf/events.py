"""Audit events in the Open Cybersecurity Schema Framework.

The classes are Authentication (3002) for attempts with codes, Account Change (3001) for changes of
a person's authenticator, and API Activity (6003) for everything else. Facts for which OCSF has no
attribute are in `unmapped`, so that no fact of an event is lost.
"""

from collections.abc import Mapping

from stepup.cli.ocsf.records import (
    ACCOUNT_CHANGE,
    API_ACTIVITY,
    AUTHENTICATION,
    OTHER,
    PRODUCT,
    RESET_CODE_FACTOR,
    TOTP_FACTOR,
    OcsfActivity,
    OcsfClass,
    OcsfSeverity,
    OcsfStatus,
    classification,
    metadata_of,
    milliseconds,
)
from stepup.domain.audit import ChainedEvent, Event, EventKind, Json


def _refused(message: str) -> OcsfActivity:
    return OcsfActivity(AUTHENTICATION, 1, "Logon", message, OcsfStatus.FAILURE)


def _enabled(message: str, status: OcsfStatus = OcsfStatus.SUCCESS) -> OcsfActivity:
    return OcsfActivity(ACCOUNT_CHANGE, 10, "MFA Factor Enable", message, status)


def _disabled(message: str) -> OcsfActivity:
    return OcsfActivity(ACCOUNT_CHANGE, 11, "MFA Factor Disable", message)


def _unlocked(message: str) -> OcsfActivity:
    return OcsfActivity(ACCOUNT_CHANGE, 12, "Unlock", message)


def _forgotten(message: str) -> OcsfActivity:
    return OcsfActivity(ACCOUNT_CHANGE, 6, "Delete", message)


def _wizard(step: str, message: str) -> OcsfActivity:
    return OcsfActivity(ACCOUNT_CHANGE, OTHER, f"MFA Factor Enrollment {step}", message)


_ACTIVITIES: Mapping[EventKind, OcsfActivity] = {
    EventKind.OTP_VERIFIED: OcsfActivity(
        AUTHENTICATION, 1, "Logon", "A one-time code was verified"
    ),
    EventKind.OTP_REJECTED: _refused("A one-time code was rejected"),
    EventKind.RESET_CODE_REJECTED: _refused("A reset code was rejected"),
    EventKind.ATTEMPTS_REFUSED: _refused("Attempts were refused without a look at their codes"),
    EventKind.ENROLLMENT_BEGUN: _wizard("Begun", "The enrollment of an authenticator was begun"),
    EventKind.ENROLLMENT_CONFIRMED: _wizard("Confirmed", "A code of a new authenticator was right"),
    EventKind.ENROLLMENT_CANCELLED: _wizard(
        "Cancelled", "The enrollment of an authenticator was cancelled"
    ),
    EventKind.ENROLLMENT_REJECTED: _enabled(
        "The first code of a new authenticator was wrong", OcsfStatus.FAILURE
    ),
    EventKind.ENROLLMENT_COMPLETED: _enabled("An authenticator became active"),
    EventKind.AUTHENTICATOR_REMOVED: _disabled("A user removed their own authenticator"),
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
    EventKind.RESET_CODE_ISSUED: OcsfActivity(
        ACCOUNT_CHANGE, OTHER, "Reset Code Issue", "A user got a new reset code"
    ),
    EventKind.USER_UNLOCKED: _unlocked("An administrator ended a user's lock"),
    EventKind.USER_UNLOCKED_BY_OPERATOR: _unlocked("An operator ended a user's lock"),
    EventKind.USER_FORGOTTEN: _forgotten("An administrator forgot a user"),
    EventKind.USER_FORGOTTEN_BY_OPERATOR: _forgotten("An operator forgot a user"),
    EventKind.USER_DEPROVISIONED: _forgotten("A caller that provisions users forgot a user"),
    EventKind.POLICY_CHANGED: OcsfActivity(
        API_ACTIVITY, 3, "Update", "The step-up policy was changed"
    ),
    EventKind.POLICY_CHANGED_BY_OPERATOR: OcsfActivity(
        API_ACTIVITY, 3, "Update", "An operator changed the step-up policy"
    ),
    EventKind.ELEVATIONS_REVOKED: OcsfActivity(
        API_ACTIVITY, 4, "Delete", "Elevations were revoked"
    ),
    EventKind.ELEVATIONS_REVOKED_BY_OPERATOR: OcsfActivity(
        API_ACTIVITY, 4, "Delete", "An operator revoked elevations"
    ),
    EventKind.OPERATOR_READ: OcsfActivity(API_ACTIVITY, 2, "Read", "An operator read about people"),
    EventKind.AUDIT_PRUNED: OcsfActivity(
        API_ACTIVITY, 4, "Delete", "The oldest audit events were deleted"
    ),
    EventKind.RECEIPT_REDEEMED: OcsfActivity(
        API_ACTIVITY, OTHER, "Redeem", "A retry receipt was redeemed"
    ),
    EventKind.CLAIM_REFUSED: OcsfActivity(
        API_ACTIVITY,
        OTHER,
        "Refuse",
        "A caller asserted a claim that it may not assert",
        OcsfStatus.FAILURE,
    ),
    EventKind.ACCOUNT_MFA_CHANGED: _enabled("MFA was turned on for an account"),
    EventKind.CHALLENGE_APPROVED: OcsfActivity(
        AUTHENTICATION, 1, "Logon", "A one-time code approved a challenge"
    ),
    EventKind.CHALLENGE_CREATED: OcsfActivity(API_ACTIVITY, 1, "Create", "A challenge was created"),
    EventKind.CHALLENGE_DECLINED: OcsfActivity(
        API_ACTIVITY, 3, "Update", "A person declined a challenge"
    ),
    EventKind.CHALLENGE_CANCELLED: OcsfActivity(
        API_ACTIVITY, 3, "Update", "A caller cancelled a challenge"
    ),
    EventKind.CHALLENGE_CANCELLED_BY_OPERATOR: OcsfActivity(
        API_ACTIVITY, 3, "Update", "An operator cancelled a challenge"
    ),
    EventKind.CHALLENGE_EXPIRED: OcsfActivity(
        API_ACTIVITY, 3, "Update", "A challenge was not answered"
    ),
    EventKind.CHALLENGE_ITEM_USED: OcsfActivity(
        API_ACTIVITY, OTHER, "Use", "An item of a challenge allowed an action"
    ),
    EventKind.PORTAL_SESSION_CREATED: OcsfActivity(
        API_ACTIVITY, 1, "Create", "A caller opened a page of the portal for a person"
    ),
    EventKind.PORTAL_SESSION_OPENED: OcsfActivity(
        API_ACTIVITY, OTHER, "Redeem", "A browser opened the link of a portal session"
    ),
    EventKind.PORTAL_SESSION_ENDED: OcsfActivity(
        API_ACTIVITY, 4, "Delete", "A person left the portal"
    ),
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
        **classification(activity, _severity(event, activity)),
        **_circumstances(chained),
        **_object(event, activity.of),
    }


def _activity(event: Event) -> OcsfActivity:
    if event.kind is EventKind.ACCOUNT_MFA_CHANGED and not event.details.get("enabled"):
        return _ACCOUNT_MFA_OFF
    return _ACTIVITIES[event.kind]


def _severity(event: Event, activity: OcsfActivity) -> OcsfSeverity:
    if event.kind in _ALARMING or event.details.get("suspended"):
        return OcsfSeverity.HIGH
    if activity.status is OcsfStatus.SUCCESS:
        return OcsfSeverity.INFORMATIONAL
    return OcsfSeverity.MEDIUM if event.details.get("locked_until") else OcsfSeverity.LOW


def _circumstances(chained: ChainedEvent) -> dict[str, Json]:
    event = chained.event
    actor: dict[str, Json] = {"app_name": event.caller}
    person = _acting_person(event)
    if person is not None:
        actor["user"] = person
    session = event.details.get("session")
    if session is not None:
        actor["session"] = {"uid": session}
    metadata = metadata_of(
        "audit",
        uid=event.event_id,
        tenant_id=event.tenant_id,
        code=event.kind.value,
        at=event.occurred_at,
        request_id=event.details.get("request_id"),
    )
    unmapped: dict[str, Json] = {
        "details": event.details,
        "previous_hash": chained.previous_hash.hex(),
        "hash": chained.hash.hex(),
    }
    source: dict[str, Json] = {"svc_name": event.caller}
    if event.client is not None:
        # The device of the person. The caller stays in `actor.app_name`.
        unmapped["client"] = {
            "address": event.client.address,
            "user_agent": event.client.user_agent,
        }
        if event.client.address:
            source = {"ip": event.client.address}
    found: dict[str, Json] = {
        "time": milliseconds(event.occurred_at),
        "metadata": {**metadata, "sequence": chained.sequence},
        "actor": actor,
        "src_endpoint": source,
        "unmapped": unmapped,
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


def _object(event: Event, of: OcsfClass) -> Mapping[str, Json]:
    """The object of an event, in the attributes of its class."""
    user: Json = {"uid": event.subject_user_id or event.actor_user_id}
    if of is ACCOUNT_CHANGE:
        return {"user": user, "auth_factors": [TOTP_FACTOR]}
    if of is AUTHENTICATION:
        by_reset_code = (
            event.kind is EventKind.RESET_CODE_REJECTED or event.details.get("codes") == "reset"
        )
        return {
            "user": user,
            "service": {"name": PRODUCT},
            "is_mfa": True,
            "auth_protocol_id": OTHER,
            "auth_protocol": "Reset code" if by_reset_code else "TOTP",
            "auth_factors": [RESET_CODE_FACTOR if by_reset_code else TOTP_FACTOR],
        }
    operation, resource, named = _call(event)
    return {
        "api": {"operation": operation, "service": {"name": PRODUCT}},
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
