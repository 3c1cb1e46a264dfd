"""Elevations, the proof that an actor gave a valid code, and the outcome of each attempt."""

from datetime import datetime, timedelta
from enum import Enum, StrEnum, unique

from stepup.domain.actor import SessionHash, TenantId, UserId
from stepup.domain.values import value

LIFETIME = timedelta(minutes=15)
"""How long an elevation lives from the receipt of its code. Use never lengthens it (S9)."""

CLOCK_TOLERANCE = timedelta(seconds=5)
"""How far the clocks of two workers may differ. An elevation from further in the future is void:
the clock that made it, or this one, cannot be trusted."""


@unique
class AuthenticationMethod(StrEnum):
    """A way in which a person proves themselves."""

    TOTP = "totp"


@value
class Elevation:
    """A code was right at `verified_at`, in one session, with one enrollment."""

    tenant_id: TenantId
    user_id: UserId
    session_hash: SessionHash
    enrollment_id: str
    verified_at: datetime
    expires_at: datetime
    methods: tuple[AuthenticationMethod, ...] = (AuthenticationMethod.TOTP,)

    def is_live(self, now: datetime) -> bool:
        """Whether it counts at this instant; at `expires_at` it no longer does.

        What is stored never makes it live longer than from its verification (S9).
        """
        expires_at = min(self.expires_at, self.verified_at + LIFETIME)
        return self.verified_at - CLOCK_TOLERANCE <= now < expires_at

    def is_older_than(self, max_age: timedelta, now: datetime) -> bool:
        """Whether more than `max_age` has passed since the code was received."""
        return now - self.verified_at > max_age


@unique
class Outcome(Enum):
    """The result of the attempt. All refused codes are `REJECTED`."""

    VERIFIED = "verified"
    REJECTED = "rejected"
    THROTTLED = "throttled"
    NOT_ENROLLED = "not_enrolled"
    SUSPENDED = "suspended"
    SESSION_SPENT = "session_spent"


@value
class Verification:
    """The outcome, with the elevation it earned or the attempts that are left.

    `retry_after` is how long a lock lasts. After a repeated or a late code (S22), `next_code_after`
    is the time until the next code begins. After other codes it is zero.
    """

    outcome: Outcome
    elevation: Elevation | None = None
    attempts_remaining: int = 0
    retry_after: timedelta = timedelta()
    next_code_after: timedelta = timedelta()
