"""What a caller learns of one attempt with a code."""

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, unique

from stepup.domain.elevation import Elevation


@unique
class Outcome(Enum):
    """What became of the code. Wrong and replayed ones are both `REJECTED`."""

    VERIFIED = "verified"
    REJECTED = "rejected"
    THROTTLED = "throttled"
    NOT_ENROLLED = "not_enrolled"
    SUSPENDED = "suspended"
    SESSION_SPENT = "session_spent"


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcome, with the elevation it earned or the attempts that are left."""

    outcome: Outcome
    elevation: Elevation | None = None
    attempts_remaining: int = 0
    retry_after: timedelta = timedelta()
