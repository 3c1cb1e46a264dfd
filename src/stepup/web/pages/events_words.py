"""Audit events in words: what happened, who acted, and the facts of each event."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from google.protobuf.json_format import MessageToDict
from markupsafe import Markup

from stepup.system.json_texts import whole_numbers
from stepup.v1 import audit_service_pb2 as pb
from stepup.web.rendering import bdi
from stepup.web.texts import N_, Texts

KINDS: Final[Mapping[str, str]] = {
    "policy_changed": N_("MFA settings changed"),
    "policy_changed_by_operator": N_("MFA settings changed by an operator"),
    "enrollment_begun": N_("Setup of an authenticator begun"),
    "enrollment_confirmed": N_("New authenticator confirmed with a code"),
    "enrollment_rejected": N_("Wrong code during setup"),
    "enrollment_completed": N_("Authenticator set up"),
    "enrollment_cancelled": N_("Setup cancelled"),
    "authenticator_imported": N_("Authenticator imported by an operator"),
    "authenticator_removed": N_("Authenticator removed by its owner"),
    "authenticator_reset": N_("Authenticator reset with the reset code"),
    "authenticator_reset_by_administrator": N_("Authenticator reset by an administrator"),
    "authenticator_reset_by_operator": N_("Authenticator reset by an operator"),
    "authenticator_reset_by_break_glass": N_("Authenticator reset on the server"),
    "reset_code_issued": N_("New reset code issued"),
    "reset_code_rejected": N_("Wrong reset code"),
    "account_mfa_changed": N_("MFA of an account turned on or off"),
    "otp_verified": N_("Code accepted"),
    "otp_rejected": N_("Code refused"),
    "attempts_refused": N_("Code refused without a check"),
    "elevations_revoked": N_("Confirmations ended"),
    "elevations_revoked_by_operator": N_("Confirmations ended by an operator"),
    "challenge_created": N_("Approval requested"),
    "challenge_approved": N_("Request approved"),
    "challenge_declined": N_("Request declined"),
    "challenge_cancelled": N_("Request withdrawn"),
    "challenge_cancelled_by_operator": N_("Request withdrawn by an operator"),
    "challenge_expired": N_("Request not answered in time"),
    "challenge_item_used": N_("Approved operation carried out"),
    "receipt_redeemed": N_("Operation repeated without a new code"),
    "user_unlocked": N_("Lock ended by an administrator"),
    "user_unlocked_by_operator": N_("Lock ended by an operator"),
    "user_forgotten": N_("Person forgotten by an administrator"),
    "user_forgotten_by_operator": N_("Person forgotten by an operator"),
    "user_deprovisioned": N_("Person forgotten by a service"),
    "operator_read": N_("Data read by an operator"),
    "portal_session_created": N_("Page requested for a person"),
    "portal_session_opened": N_("Page opened"),
    "portal_session_ended": N_("Page left"),
    "claim_refused": N_("Claim of a service refused"),
    "audit_pruned": N_("Old events deleted"),
}
"""What happened, by the kind of the event: texts that are not translated yet."""


def kind_name(kind: pb.AuditEventKind.ValueType) -> str:
    """The name of a kind, as exports have it; the number of a kind of a newer server."""
    if kind not in pb.AuditEventKind.values():
        return str(kind)
    return pb.AuditEventKind.Name(kind).removeprefix("AUDIT_EVENT_KIND_").lower()


def details_of(event: pb.AuditEvent) -> Mapping[str, Any]:
    """The details of an event as JSON, as they are hashed: whole numbers without a fraction."""
    details: Mapping[str, Any] = whole_numbers(MessageToDict(event.details))
    return details


def described(texts: Texts, event: pb.AuditEvent) -> Mapping[str, Any]:
    """Return an event in words, for the template."""
    details = details_of(event)
    kind = kind_name(event.kind)
    portal = details.get("portal")
    return {
        "what": texts.gettext(KINDS[kind]) if kind in KINDS else bdi(kind),
        "when": event.occurred_at,
        "actor": _acting(texts, event, details),
        "subject": bdi(event.subject_user_id)
        if event.subject_user_id
        else texts.gettext("The whole business"),
        "service": texts.gettext(
            "%(service)s, on a page that %(opener)s opened",
            service=bdi(event.caller),
            opener=bdi(portal.get("opened_by", "")),
        )
        if isinstance(portal, Mapping)
        else bdi(event.caller),
        "device": event.client if event.HasField("client") else None,
        "reason": str(details.get("reason") or _operator(details).get("reason") or ""),
        "facts": [
            ("sequence", str(event.sequence)),
            ("event_id", event.event_id),
            *facts_of(details),
            ("hash", event.hash.hex()),
        ],
    }


def _acting(texts: Texts, event: pb.AuditEvent, details: Mapping[str, Any]) -> Markup:
    if event.actor_user_id:
        return bdi(event.actor_user_id)
    if name := _operator(details).get("name"):
        return texts.gettext("%(name)s, an operator of the platform", name=bdi(name))
    if "os_user" in details:
        return texts.gettext(
            "%(name)s, on the server %(host)s",
            name=bdi(details["os_user"]),
            host=bdi(details.get("host", "")),
        )
    return texts.gettext("Nobody: the service itself")


def _operator(details: Mapping[str, Any]) -> Mapping[str, Any]:
    operator = details.get("operator")
    return operator if isinstance(operator, Mapping) else {}


def facts_of(details: object, name: str = "") -> Iterator[tuple[str, str]]:
    """The values of a JSON object, one by one: `before.enabled`, `items.1.operation`."""
    if isinstance(details, Mapping):
        pairs = [(str(key), details[key]) for key in sorted(details)]
    elif isinstance(details, list):
        pairs = [(str(number), each) for number, each in enumerate(details, 1)]
    else:
        yield name, details if isinstance(details, str) else json.dumps(details)
        return
    for key, each in pairs:
        yield from facts_of(each, f"{name}.{key}" if name else key)
