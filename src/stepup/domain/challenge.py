"""A challenge: a request that a person approves named actions with one code (product.md).

    PENDING -> APPROVED | DECLINED | CANCELLED | EXPIRED | REVOKED
    APPROVED -> CANCELLED | EXPIRED | REVOKED

An approval elevates nothing. It covers each item once, for the caller and the session that created
the challenge (S19).
"""

from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum, unique
from typing import Final, Self
from uuid import UUID

from stepup.domain.actor import Actor, CallerId, SessionHash, TenantId, UserId
from stepup.domain.changes import UserRevocations
from stepup.domain.errors import ChallengeStateError, InvalidValueError
from stepup.domain.operations import OperationId
from stepup.domain.receipts import MAX_TARGET_BYTES, Origin, Redemption, digest
from stepup.domain.text import HumanText
from stepup.domain.values import value

MAX_ITEMS: Final = 100
LONGEST_OPEN: Final = timedelta(minutes=10)
"""How long a person has to answer, by default and at most."""
VALID_FOR: Final = timedelta(minutes=15)
"""How long an approval lasts, by default."""
LONGEST_VALID: Final = timedelta(minutes=60)
MAX_PENDING_OF_USER: Final = 20
MAX_NEW_OF_USER: Final = 10
"""How many challenges a user gets in a minute."""
MAX_PENDING_OF_CALLER: Final = 1000
"""How many challenges of a caller are pending in one tenant."""
KEPT: Final = timedelta(days=1)
"""How long the database keeps a challenge after its end."""


class Message(HumanText):
    """The words that say to the person what they approve."""

    __slots__ = ()
    max_characters = 500


class ItemLabel(HumanText):
    """What people call the target of an item."""

    __slots__ = ()
    max_characters = 200


class ItemTarget(str):
    """The object of an action, opaque: 1 to 256 bytes."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Check the target.

        Raises:
            InvalidValueError: the target is empty or too long.
        """
        if not text:
            raise InvalidValueError("is required")
        if len(text.encode()) > MAX_TARGET_BYTES:
            raise InvalidValueError(f"must be at most {MAX_TARGET_BYTES} bytes")
        if "\0" in text:  # PostgreSQL stores no such text
            raise InvalidValueError("must have no NUL character")
        return super().__new__(cls, text)


def checked_duration(duration: timedelta, longest: timedelta) -> timedelta:
    """Return the time to answer a challenge, or the time to use its approval, as it is.

    Raises:
        InvalidValueError: the duration is not in whole seconds from 1 second to `longest`.
    """
    if duration.microseconds or not timedelta(seconds=1) <= duration <= longest:
        raise InvalidValueError(
            f"must be whole seconds, from 1 second to {longest // timedelta(minutes=1)} minutes"
        )
    return duration


@unique
class ChallengeState(StrEnum):
    """Whether a challenge was answered, and what ended it."""

    PENDING = "pending"
    APPROVED = "approved"
    DECLINED = "declined"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REVOKED = "revoked"


@value
class Item:
    """An action to approve.

    `needed` says whether the action needed a code when the challenge was created. `used` names the
    check that used the item; None before its use.
    """

    operation: OperationId
    target: ItemTarget
    label: ItemLabel
    needed: bool = True
    used: Redemption | None = None


@value
class Approval:
    """The code that approved a challenge.

    `verified_at` is when the server received the code. `session_hash` is the session in which the
    person gave the code, and `enrollment_id` the authenticator that computed it. The items are
    allowed before `usable_until`.
    """

    verified_at: datetime
    session_hash: SessionHash
    enrollment_id: str
    usable_until: datetime

    def origin(self, authorised_at: datetime) -> Origin:
        """The origin of the receipt for an action that an item allowed at `authorised_at`."""
        return Origin(authorised_at, self.verified_at, digest(self.enrollment_id))


@value
class Challenge:
    """A challenge as it is stored.

    `session_hash` is the session for which the caller created the challenge, and `requested_by` the
    title of this caller. `valid_for` is the time to use an approval. `request_id` is the caller's
    name for the request, if any. `stored_state` is the last state that a transaction wrote, and
    `ended_at` the time of the write if the state is an end. A challenge whose time is over has
    ended even before this is written: see `state_at`.
    """

    challenge_id: UUID
    tenant_id: TenantId
    user_id: UserId
    session_hash: SessionHash
    caller: CallerId
    requested_by: str
    message: Message
    items: tuple[Item, ...]
    created_at: datetime
    expires_at: datetime
    valid_for: timedelta = VALID_FOR
    request_id: UUID | None = None
    stored_state: ChallengeState = ChallengeState.PENDING
    approval: Approval | None = None
    ended_at: datetime | None = None

    def state_at(self, now: datetime) -> ChallengeState:
        """The state at an instant. At `expires_at` and `usable_until` the challenge has expired."""
        if self.stored_state is ChallengeState.PENDING and now >= self.expires_at:
            return ChallengeState.EXPIRED
        if (
            self.stored_state is ChallengeState.APPROVED
            and self.approval is not None
            and now >= self.approval.usable_until
        ):
            return ChallengeState.EXPIRED
        return self.stored_state

    @property
    def answered_at(self) -> datetime | None:
        """When the person approved or declined."""
        if self.approval is not None:
            return self.approval.verified_at
        return self.ended_at if self.stored_state is ChallengeState.DECLINED else None

    @property
    def forget_at(self) -> datetime:
        """When housekeeping may delete the challenge: a day after its end."""
        if self.ended_at is not None:
            return self.ended_at + KEPT
        return (self.approval.usable_until if self.approval else self.expires_at) + KEPT

    @property
    def text_bytes(self) -> int:
        """How many bytes of UTF-8 the texts of the caller have."""
        texts = [self.message, *(text for item in self.items for text in (item.target, item.label))]
        return sum(len(text.encode()) for text in texts)

    def is_of(self, actor: Actor) -> bool:
        """Whether the actor is the challenge's user. Nobody else can answer (S19)."""
        return (self.tenant_id, self.user_id) == (actor.tenant_id, actor.user_id)

    def approved(self, now: datetime, session_hash: SessionHash, enrollment_id: str) -> Self:
        """The challenge after the person gave a right code.

        Args:
            now: when the server received the code.
            session_hash: the session in which the person gave the code.
            enrollment_id: the authenticator that computed the code.

        Raises:
            ChallengeStateError: the challenge is not pending.
        """
        self.demand_pending(now)
        approval = Approval(now, session_hash, enrollment_id, now + self.valid_for)
        return replace(self, stored_state=ChallengeState.APPROVED, approval=approval)

    def declined(self, now: datetime) -> Self:
        """The challenge after the person refused. A declined challenge does not change.

        Raises:
            ChallengeStateError: the challenge is not pending.
        """
        if self.stored_state is ChallengeState.DECLINED:
            return self
        self.demand_pending(now)
        return self._ended(ChallengeState.DECLINED, now)

    def cancelled(self, now: datetime) -> Self:
        """The challenge after its caller withdrew it. A cancelled challenge does not change.

        Raises:
            ChallengeStateError: the challenge has ended in another way.
        """
        if self.stored_state is ChallengeState.CANCELLED:
            return self
        if not self.is_open_at(now):
            raise ChallengeStateError(self.state_at(now))
        return self._ended(ChallengeState.CANCELLED, now)

    def revoked(self, now: datetime) -> Self:
        """The open challenge after a sign-out, a revocation or the end of the authenticator."""
        return self._ended(ChallengeState.REVOKED, now)

    def expired(self, now: datetime) -> Self:
        """The challenge after the record that nobody answered in time."""
        return self._ended(ChallengeState.EXPIRED, now)

    def demand_pending(self, now: datetime) -> None:
        """Demand that the person can answer.

        Raises:
            ChallengeStateError: the challenge is not pending.
        """
        state = self.state_at(now)
        if state is not ChallengeState.PENDING:
            raise ChallengeStateError(state)

    def is_open_at(self, now: datetime) -> bool:
        """Whether the challenge is pending, or approved and usable."""
        return self.state_at(now) in (ChallengeState.PENDING, ChallengeState.APPROVED)

    def is_revoked(self, revocations: UserRevocations, active_enrollment: str | None) -> bool:
        """Whether a revocation has ended the approval, even if `stored_state` is APPROVED (S10).

        A server of an earlier release revokes elevations and ends no challenges. The rule is that
        for the origin of a receipt (`Origin.is_revoked`).

        Args:
            revocations: the revocations of the user and of the challenge's session.
            active_enrollment: the id of the user's active enrollment; None without one.
        """
        approval = self.approval
        return approval is not None and approval.origin(approval.verified_at).is_revoked(
            revocations, active_enrollment
        )

    def was_ended_by(self, revocations: UserRevocations) -> bool:
        """Whether a revocation or the end of an authenticator came after the creation (S10).

        Args:
            revocations: the revocations of the user and of the challenge's session.
        """
        ends = revocations.ended_enrollments.values()
        return revocations.reaches(self.created_at) or any(self.created_at <= end for end in ends)

    def find_item(self, operation: OperationId, target: str) -> int | None:
        """The place of the item that names an action; None if no item does."""
        for place, item in enumerate(self.items):
            if (item.operation, item.target) == (operation, target):
                return place
        return None

    def _ended(self, state: ChallengeState, now: datetime) -> Self:
        return replace(self, stored_state=state, ended_at=now)
