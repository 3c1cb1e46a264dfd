"""The people of a tenant, as far as the service knows them: for lists, never for decisions."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import Enum, StrEnum, unique
from typing import Final

from stepup.domain.actor import UserId
from stepup.domain.authenticator import Authenticator
from stepup.domain.values import value

MAX_ASKED: Final = 100_000
"""How many people of a tenant are recorded as asked without an authenticator. The limit bounds the
rows that a caller can cause, because callers choose the ids."""
ENDED_RECENTLY: Final = timedelta(days=30)
"""How long an end by others than an administrator forbids imports for the user."""


@unique
class PersonState(Enum):
    """A state of a person; several may hold."""

    ENROLLED = "enrolled"
    PENDING = "pending"
    NOT_ENROLLED = "not_enrolled"
    IN_GRACE = "in_grace"
    LOCKED = "locked"
    SUSPENDED = "suspended"


@unique
class EndedBy(StrEnum):
    """A cause, other than the user, of the end of an authenticator or of a forgotten user."""

    ADMINISTRATOR = "administrator"
    OPERATOR = "operator"
    DEPROVISIONING = "deprovisioning"
    BREAK_GLASS = "break_glass"

    @property
    def forbids_import(self) -> bool:
        """Whether an import within `ENDED_RECENTLY` would undo the act of this authority."""
        return self is not EndedBy.ADMINISTRATOR


@value
class PastAuthenticator:
    """The latest time at which somebody else ended a user's authenticator, or forgot the user."""

    ended_at: datetime
    ended_by: EndedBy

    def forbids_import(self, now: datetime) -> bool:
        """Whether nobody may import an authenticator for the user yet."""
        # No lower bound: an end in the future, after the clock was set back, also forbids.
        return self.ended_by.forbids_import and now < self.ended_at + ENDED_RECENTLY


@value
class Person:
    """A user of a tenant.

    `pending_until` is when the last of the open wizards ends. `first_asked_at` and `last_asked_at`
    are when the person was asked without an authenticator; the latter is exact to a day. All three
    are None where there is nothing. `ever_enrolled` says whether the user has or ever had an
    authenticator.
    """

    user_id: UserId
    authenticator: Authenticator | None = None
    has_reset_code: bool = False
    account_mfa_enabled: bool = False
    pending_until: datetime | None = None
    first_asked_at: datetime | None = None
    last_asked_at: datetime | None = None
    ever_enrolled: bool = False

    def states(self, now: datetime, *, in_grace: bool) -> Iterator[PersonState]:
        """All states that hold now, in the order of the enumeration.

        Args:
            now: the time.
            in_grace: whether the tenant's policy gives time to enrol now (`Policy.in_grace`).
        """
        if self.authenticator is not None:
            yield PersonState.ENROLLED
        if self.pending_until is not None and now < self.pending_until:
            yield PersonState.PENDING
        if self.authenticator is None and self.last_asked_at is not None:
            yield PersonState.NOT_ENROLLED
            if in_grace and not self.ever_enrolled:
                yield PersonState.IN_GRACE
        if self.authenticator is not None:
            if self.authenticator.throttle.retry_after(now):
                yield PersonState.LOCKED
            if self.authenticator.throttle.is_suspended:
                yield PersonState.SUSPENDED


@value
class PeopleCounts:
    """How many people of a tenant are in each state."""

    enrolled: int = 0
    pending: int = 0
    not_enrolled: int = 0
    in_grace: int = 0
    locked: int = 0
    suspended: int = 0
