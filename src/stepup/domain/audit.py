"""Audit events, and the hash chain that ties each tenant's events together (S14)."""

import json
from collections.abc import Mapping
from dataclasses import field, replace
from datetime import UTC, datetime
from enum import Enum, unique
from hashlib import sha256
from typing import TypeAlias
from uuid import uuid4

from stepup.domain.actor import CallerId, Device, TenantId, UserId
from stepup.domain.values import value

Json: TypeAlias = "bool | int | float | str | list[Json] | Mapping[str, Json] | None"

NO_HASH = bytes(32)
"""What the first event of a tenant follows."""
SALT_BYTES = 16


@unique
class EventKind(Enum):
    """What happened."""

    POLICY_CHANGED = "policy_changed"
    ENROLLMENT_BEGUN = "enrollment_begun"
    ENROLLMENT_CONFIRMED = "enrollment_confirmed"
    ENROLLMENT_REJECTED = "enrollment_rejected"
    ENROLLMENT_COMPLETED = "enrollment_completed"
    ENROLLMENT_CANCELLED = "enrollment_cancelled"
    AUTHENTICATOR_REMOVED = "authenticator_removed"
    AUTHENTICATOR_RESET = "authenticator_reset"
    AUTHENTICATOR_RESET_BY_ADMINISTRATOR = "authenticator_reset_by_administrator"
    OTP_VERIFIED = "otp_verified"
    OTP_REJECTED = "otp_rejected"
    RESET_CODE_REJECTED = "reset_code_rejected"
    ATTEMPTS_REFUSED = "attempts_refused"
    ELEVATIONS_REVOKED = "elevations_revoked"
    RECEIPT_REDEEMED = "receipt_redeemed"
    ACCOUNT_MFA_CHANGED = "account_mfa_changed"
    CLAIM_REFUSED = "claim_refused"
    CHALLENGE_CREATED = "challenge_created"
    CHALLENGE_APPROVED = "challenge_approved"
    CHALLENGE_DECLINED = "challenge_declined"
    CHALLENGE_CANCELLED = "challenge_cancelled"
    CHALLENGE_EXPIRED = "challenge_expired"
    CHALLENGE_ITEM_USED = "challenge_item_used"
    RESET_CODE_ISSUED = "reset_code_issued"
    USER_UNLOCKED = "user_unlocked"
    USER_FORGOTTEN = "user_forgotten"
    USER_DEPROVISIONED = "user_deprovisioned"
    AUTHENTICATOR_IMPORTED = "authenticator_imported"
    OPERATOR_READ = "operator_read"
    POLICY_CHANGED_BY_OPERATOR = "policy_changed_by_operator"
    AUTHENTICATOR_RESET_BY_OPERATOR = "authenticator_reset_by_operator"
    ELEVATIONS_REVOKED_BY_OPERATOR = "elevations_revoked_by_operator"
    CHALLENGE_CANCELLED_BY_OPERATOR = "challenge_cancelled_by_operator"
    USER_UNLOCKED_BY_OPERATOR = "user_unlocked_by_operator"
    USER_FORGOTTEN_BY_OPERATOR = "user_forgotten_by_operator"
    AUTHENTICATOR_RESET_BY_BREAK_GLASS = "authenticator_reset_by_break_glass"
    AUDIT_PRUNED = "audit_pruned"
    PORTAL_SESSION_CREATED = "portal_session_created"
    PORTAL_SESSION_OPENED = "portal_session_opened"
    PORTAL_SESSION_ENDED = "portal_session_ended"


@value
class Event:
    """One thing that happened. `details` never hold a secret (S11).

    `actor_user_id` is None if no person of the tenant acted. `client` is the device of the person,
    which is stored beside the chain; the chain has its salted hash, in `details`.
    """

    tenant_id: TenantId
    kind: EventKind
    occurred_at: datetime
    caller: CallerId
    actor_user_id: UserId | None
    subject_user_id: UserId | None = None
    details: Mapping[str, Json] = field(default_factory=dict)
    event_id: str = field(default_factory=lambda: str(uuid4()))
    client: Device | None = None

    def with_client_hash(self, salt: bytes) -> "Event":
        """The event with the salted hash of its device in `details`; itself if it has no device."""
        if self.client is None:
            return self
        return replace(self, details={**self.details, "client": client_hash(self.client, salt)})


@value
class ChainedEvent:
    """An event in its place: the tenant's `sequence`-th, counted from 1 without gaps.

    Its hash covers all of the event except `client`.
    """

    event: Event
    sequence: int
    previous_hash: bytes
    hash: bytes

    @classmethod
    def after(cls, sequence: int, previous_hash: bytes, event: Event) -> "ChainedEvent":
        """The event as the successor of the tenant's `sequence`-th, 0 when it is the first."""
        return cls(
            event, sequence + 1, previous_hash, chain_hash(event, sequence + 1, previous_hash)
        )


def chain_hash(event: Event, sequence: int, previous_hash: bytes) -> bytes:
    """SHA-256 over the hash before and the canonical JSON of the event: 32 bytes."""
    return sha256(previous_hash + canonical_json(described(event, sequence)).encode()).digest()


def described(event: Event, sequence: int) -> Mapping[str, Json]:
    """The event as the JSON object that is hashed."""
    return {
        "tenant_id": event.tenant_id,
        "sequence": sequence,
        "event_id": event.event_id,
        "occurred_at": written(event.occurred_at),
        "kind": event.kind.value,
        "caller": event.caller,
        "actor_user_id": event.actor_user_id,
        "subject_user_id": event.subject_user_id,
        "details": event.details,
    }


def client_hash(client: Device, salt: bytes) -> str:
    """SHA-256 over a salt and the canonical JSON of a device, in hexadecimal.

    Without the salt, which is deleted with the device, the hash does not show which device it was:
    addresses are few enough to try them all.
    """
    device = {"address": client.address, "user_agent": client.user_agent}
    return sha256(salt + canonical_json(device).encode()).hexdigest()


def written(instant: datetime) -> str:
    """An instant as text: UTC, with microseconds also where there are none."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds")


def canonical_json(value: Json) -> str:
    """The one text of a value: names sorted, no white space, ASCII only."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
