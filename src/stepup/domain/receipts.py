"""Receipts: the proof that an action was authorised, for a retry after it timed out.

A receipt is `2.<key id>.<payload>.<MAC>`, payload and MAC in unpadded base64url. The payload has a
fixed layout: the decision's UUID (16 bytes), the time of the first authorisation (8 bytes,
microseconds since the epoch, big-endian), the time of the code that the first authorisation rests
on (8 bytes, alike), the exemption that earned it (1 byte), and 16 bytes of SHA-256 each over the
enrollment of that code, caller, actor, operation and target. The MAC is HMAC-SHA-256 over
everything before it. Nothing is stored for a receipt until a retry redeems it.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Collection
from datetime import datetime, timedelta
from enum import StrEnum, unique
from functools import lru_cache
from hashlib import sha256
from typing import Self
from uuid import UUID

from stepup.domain.actor import Actor, CallerId
from stepup.domain.callers import Claim
from stepup.domain.changes import UserRevocations
from stepup.domain.elevation import CLOCK_TOLERANCE, Elevation
from stepup.domain.instants import instant_at, microseconds
from stepup.domain.operations import OperationId
from stepup.domain.values import secret_value, value

RETRY_WINDOW = timedelta(minutes=60)
"""The default; counted from the first authorisation, so that a chain of retries ends."""

REPEATABLE = timedelta(minutes=1)
"""How long after its redemption a receipt answers the same check, when that is sent again."""

MAX_TARGET_BYTES = 256

_VERSION = "2"
"""Receipts of another version are not authentic: one of version 1 does not say what earned it."""
_DIGEST = 16
_LAYOUT = (16, 8, 8, 1, *[_DIGEST] * 5)
_EXEMPTIONS = (None, Claim.MANAGED_SERVICES, Claim.AUTOMATIC_PLAYBOOK)
"""The exemptions by the number that stands for them. A number keeps its meaning for ever."""


@unique
class ReceiptRejection(StrEnum):
    """Why a receipt bought no exemption."""

    NOT_AUTHENTIC = "not_authentic"
    EXPIRED = "expired"
    OTHER_CALLER = "other_caller"
    OTHER_ACTOR = "other_actor"
    OTHER_OPERATION = "other_operation"
    OTHER_TARGET = "other_target"
    ALREADY_USED = "already_used"
    REVOKED = "revoked"
    EXEMPTION_NOT_CLAIMED = "exemption_not_claimed"


@secret_value
class MacKeys:
    """A ring of MAC keys by id; new MACs take the primary key, MACs of the others still count.

    `keys` is a dict and no other mapping: a look into it must read nothing else.
    """

    primary: str
    keys: dict[str, bytes]


@value
class Binding:
    """What a receipt holds for: only the same caller, actor, operation and target match."""

    caller: bytes
    actor: bytes
    operation: bytes
    target: bytes

    @classmethod
    def of(cls, caller: CallerId, actor: Actor, operation: OperationId, target: str) -> Self:
        """The binding of one check. The actor is tenant, user and session."""
        return cls(
            _digest_of_few(caller),
            _digest(actor.session_hash),
            _digest_of_few(operation),
            _digest(target),
        )


@value
class Origin:
    """What a chain of receipts began with. Each retry hands it on unchanged.

    `authorised_at` is when the action was first authorised. `exemption` is the claim that earned
    it, None where a code did. Then `verified_at` is when that code was received, and `enrollment` a
    digest of the enrollment id; for an exemption they are `authorised_at` and the digest of "".
    """

    authorised_at: datetime
    verified_at: datetime
    enrollment: bytes
    exemption: Claim | None = None

    @classmethod
    def of_elevation(cls, elevation: Elevation, now: datetime) -> Self:
        """The origin of an action that an elevation allows now."""
        return cls(now, elevation.verified_at, _digest(elevation.enrollment_id))

    @classmethod
    def of_exemption(cls, exemption: Claim, now: datetime) -> Self:
        """The origin of an action that an exemption allows now."""
        return cls(now, now, _digest(""), exemption)

    def permits_retry(self, now: datetime, window: timedelta) -> bool:
        """Whether a retry at this instant comes within the window.

        An origin in the future was dated by a clock that cannot be trusted; so was its window.
        """
        return -CLOCK_TOLERANCE <= now - self.authorised_at < window

    def is_revoked(self, revocations: UserRevocations, active_enrollment: str | None) -> bool:
        """Whether a revocation of the user, or the end of an authenticator, voids it (S10).

        A code counts while its enrollment is the active one: an enrollment that a restored database
        never knew has no end on record (S28). The time of the code is judged as `Revocations.void`
        judges that of its elevation, by an instant that covers every clock that may have dated a
        code. So no clock that is set, and no worker that learns late of a revocation, lets a
        receipt survive. An exemption rests on no code: its time is compared, and the clocks of two
        workers may differ by the tolerance.

        Args:
            revocations: what of the user was revoked.
            active_enrollment: the id of the user's active enrollment; None without one.
        """
        if self.exemption is None:
            through = revocations.through
            return (
                active_enrollment is None
                or _digest(active_enrollment) != self.enrollment
                or (through is not None and self.verified_at <= through)
            )
        instants = [*revocations.ended_enrollments.values()]
        if revocations.through is not None:
            instants.append(revocations.through)
        return any(self.authorised_at <= instant + CLOCK_TOLERANCE for instant in instants)


@value
class Receipt:
    """An authentic receipt: which decision it is of, and what its chain began with."""

    decision_id: UUID
    origin: Origin


@value
class Redemption:
    """The use of a receipt: the decision that used it, when, and in which check.

    `request_id` is what the caller calls the request, None where it gave none; `index` is the place
    of the check in its batch.
    """

    decision_id: UUID
    redeemed_at: datetime
    request_id: UUID | None = None
    index: int = 0

    def is_shared_with(self, again: "Redemption") -> bool:
        """Whether a second use is the same check, sent again soon enough (its answer got lost).

        The two uses have one receipt, and so one caller, actor, operation and target.
        """
        return (
            self.request_id is not None
            and (self.request_id, self.index) == (again.request_id, again.index)
            # Both ways: clocks differ, and may be set back.
            and abs(again.redeemed_at - self.redeemed_at) < REPEATABLE
        )


@value
class RefusedReceipt:
    """A receipt that buys nothing, and why.

    `decision_id` is the decision that it is of; None unless its MAC was right: what else a receipt
    says is anybody's word.
    """

    rejection: ReceiptRejection
    decision_id: UUID | None = None


def issue(receipt: Receipt, binding: Binding, keys: MacKeys) -> str:
    """Write a receipt: at most 300 bytes of ASCII, given key ids of at most 64."""
    payload = b"".join(
        (
            receipt.decision_id.bytes,
            microseconds(receipt.origin.authorised_at).to_bytes(8, "big"),
            microseconds(receipt.origin.verified_at).to_bytes(8, "big"),
            bytes([_EXEMPTIONS.index(receipt.origin.exemption)]),
            receipt.origin.enrollment,
            binding.caller,
            binding.actor,
            binding.operation,
            binding.target,
        )
    )
    signed = f"{_VERSION}.{keys.primary}.{_encode(payload)}"
    return f"{signed}.{_encode(_mac(keys.keys[keys.primary], signed))}"


def check(
    token: str,
    binding: Binding,
    claims: Collection[Claim],
    keys: MacKeys,
    now: datetime,
    *,
    window: timedelta = RETRY_WINDOW,
) -> Receipt | RefusedReceipt:
    """Check a receipt. Only the store knows whether it was used before, or is revoked.

    Args:
        token: what the caller presents; anything at all.
        binding: the check that it is presented for.
        claims: what the check claims; a receipt that an exemption earned needs that claim again.
        keys: the ring; a key that has left it makes its receipts not authentic.
        now: when the check was received.
        window: how long after the first authorisation a retry is still one.
    """
    payload = _authentic_payload(token, keys)
    if payload is None:
        return RefusedReceipt(ReceiptRejection.NOT_AUTHENTIC)
    receipt, bound = _read(payload)
    origin = receipt.origin
    rejection = _mismatch(bound, binding)
    if rejection is None and not origin.permits_retry(now, window):
        rejection = ReceiptRejection.EXPIRED
    if rejection is None and origin.exemption is not None and origin.exemption not in claims:
        rejection = ReceiptRejection.EXEMPTION_NOT_CLAIMED
    return receipt if rejection is None else RefusedReceipt(rejection, receipt.decision_id)


def key_id_of(token: str) -> str:
    """The id of the key that a token names, whoever made it; empty where the token names none."""
    return token.rpartition(".")[0].partition(".")[2].rpartition(".")[0]


def _read(payload: bytes) -> tuple[Receipt, Binding]:
    fields, start = [], 0
    for size in _LAYOUT:
        fields.append(payload[start : start + size])
        start += size
    decision_id, authorised, verified, exemption, enrollment, *bound = fields
    origin = Origin(
        instant_at(int.from_bytes(authorised, "big")),
        instant_at(int.from_bytes(verified, "big")),
        enrollment,
        _EXEMPTIONS[exemption[0]],
    )
    return Receipt(UUID(bytes=decision_id), origin), Binding(*bound)


def _mismatch(bound: Binding, binding: Binding) -> ReceiptRejection | None:
    """The first difference between what a receipt is bound to and what it is presented for."""
    if bound.caller != binding.caller:
        return ReceiptRejection.OTHER_CALLER
    if bound.actor != binding.actor:
        return ReceiptRejection.OTHER_ACTOR
    if bound.operation != binding.operation:
        return ReceiptRejection.OTHER_OPERATION
    if bound.target != binding.target:
        return ReceiptRejection.OTHER_TARGET
    return None


def _authentic_payload(token: str, keys: MacKeys) -> bytes | None:
    signed, _, mac = token.rpartition(".")
    version, _, _ = signed.partition(".")
    key = keys.keys.get(key_id_of(token))
    if version != _VERSION or key is None or not token.isascii():
        return None
    # The text itself is compared, so that no second spelling of a MAC is accepted.
    if not hmac.compare_digest(mac.encode(), _encode(_mac(key, signed)).encode()):
        return None
    return _decode(signed.rpartition(".")[2])


def _mac(key: bytes, signed: str) -> bytes:
    return hmac.digest(key, signed.encode(), "sha256")


def _digest(text: str) -> bytes:
    return sha256(text.encode()).digest()[:_DIGEST]


@lru_cache(maxsize=1024)
def _digest_of_few(text: str) -> bytes:
    """The digest of a caller or an operation: there are no more of them than are configured."""
    return _digest(text)


def _encode(octets: bytes) -> str:
    return urlsafe_b64encode(octets).rstrip(b"=").decode()


def _decode(text: str) -> bytes | None:
    try:
        octets = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (Base64Error, ValueError):
        return None
    return octets if len(octets) == sum(_LAYOUT) else None
