"""Receipts: the proof that an action was authorised, for a retry after it timed out.

A decision earns a receipt, which is written as a token (`receipt_tokens`). Nothing is stored for a
receipt until a retry redeems it.
"""

from datetime import datetime, timedelta
from enum import StrEnum, unique
from hashlib import sha256
from typing import Self
from uuid import UUID

from stepup.domain.callers import Claim
from stepup.domain.changes import UserRevocations
from stepup.domain.elevation import CLOCK_TOLERANCE, Elevation
from stepup.domain.values import value

RETRY_WINDOW = timedelta(minutes=60)
"""The default; counted from the first authorisation, so that a chain of retries ends."""

REPEATABLE = timedelta(minutes=1)
"""How long after the first request its resend gets the same answer."""

MAX_TARGET_BYTES = 256
DIGEST_BYTES = 16


@unique
class ReceiptRejection(StrEnum):
    """Why a receipt buys no exemption."""

    NOT_AUTHENTIC = "not_authentic"
    EXPIRED = "expired"
    OTHER_CALLER = "other_caller"
    OTHER_ACTOR = "other_actor"
    OTHER_OPERATION = "other_operation"
    OTHER_TARGET = "other_target"
    ALREADY_USED = "already_used"
    REVOKED = "revoked"
    EXEMPTION_NOT_CLAIMED = "exemption_not_claimed"


@value
class Origin:
    """The first authorisation of a chain of retries. Every receipt of the chain has it unchanged.

    `authorised_at` is when the action was first authorised. `exemption` is the claim that earned
    the authorisation, None where a code did. For a code, `verified_at` is when it was received, and
    `enrollment` a digest of the enrollment id. For an exemption they are `authorised_at` and the
    digest of "".
    """

    authorised_at: datetime
    verified_at: datetime
    enrollment: bytes
    exemption: Claim | None = None

    @classmethod
    def of_elevation(cls, elevation: Elevation, now: datetime) -> Self:
        """The origin of an action that an elevation allows now."""
        return cls(now, elevation.verified_at, digest(elevation.enrollment_id))

    @classmethod
    def of_exemption(cls, exemption: Claim, now: datetime) -> Self:
        """The origin of an action that an exemption allows now."""
        return cls(now, now, digest(""), exemption)

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
                or digest(active_enrollment) != self.enrollment
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

    `request_id` is the caller's name for the request, None where it gave none. `index` is the place
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
class Redeemed:
    """A receipt that bought its exemption.

    `use` is the use by this check. If this check is a resend (`is_repeated`), `use` is the use by
    the first check.
    """

    receipt: Receipt
    use: Redemption
    is_repeated: bool = False

    @property
    def origin(self) -> Origin:
        """The origin of the retry's receipt: the very first authorisation, so chains end."""
        return self.receipt.origin


@value
class RefusedReceipt:
    """A receipt that buys nothing, and why.

    `decision_id` is the decision that the receipt is of. It is None unless the MAC was right:
    anybody can write the rest of a token.
    """

    rejection: ReceiptRejection
    decision_id: UUID | None = None


def digest(text: str) -> bytes:
    """What stands for a text in a receipt: the first 16 bytes of its SHA-256."""
    return sha256(text.encode()).digest()[:DIGEST_BYTES]
