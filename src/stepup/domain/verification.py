"""What a caller learns of one attempt with a code."""

from datetime import timedelta
from enum import Enum, unique

from stepup.domain.elevation import Elevation
from stepup.domain.values import value


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

    `retry_after` is how long a lock lasts. `next_code_after` is how long it takes until the next
    code begins, where waiting for it helps: after a repeated or a late code (S22), else zero.
    """

    outcome: Outcome
    elevation: Elevation | None = None
    attempts_remaining: int = 0
    retry_after: timedelta = timedelta()
    next_code_after: timedelta = timedelta()
