"""Throttling of wrong codes (S4; SP 800-63B-4 §3.2.2, RFC 4226 §7.3).

Five wrong codes in a row lock for 15 minutes, the next five for 30, each further five for 60.
Twenty within a rolling 24 hours lock until the oldest of them is a day old. A hundred in a row
suspend until a reset. A right code ends the row; out of the 24 hours it takes what is forgiven.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from stepup.domain.values import value

FAILURES_PER_LOCK = 5
LOCKS = (timedelta(minutes=15), timedelta(minutes=30), timedelta(minutes=60))
WINDOW = timedelta(hours=24)
FAILURES_PER_WINDOW = 20
FAILURES_UNTIL_SUSPENSION = 100


@value
class Throttle:
    """How many attempts are left, and when the next one may be made.

    `in_a_row` counts failures since the last success. `recent` holds the latest failures, oldest
    first, at most twenty.
    """

    in_a_row: int = 0
    recent: tuple[datetime, ...] = ()
    locked_until: datetime | None = None

    @property
    def is_suspended(self) -> bool:
        """Whether only a reset helps."""
        return self.in_a_row >= FAILURES_UNTIL_SUSPENSION

    def retry_after(self, now: datetime) -> timedelta:
        """How long the lock lasts; zero when an attempt may be made."""
        if self.locked_until is None or self.locked_until <= now:
            return timedelta()
        return self.locked_until - now

    def permits_attempt(self, now: datetime) -> bool:
        """Whether a code may be looked at now."""
        return not self.is_suspended and not self.retry_after(now)

    def attempts_remaining(self, now: datetime) -> int:
        """How many wrong codes are left before the next lock; 0 when locked or suspended."""
        if not self.permits_attempt(now):
            return 0
        remaining = min(
            FAILURES_PER_LOCK - self.in_a_row % FAILURES_PER_LOCK,
            FAILURES_PER_WINDOW - len(self._within_window(now)),
            FAILURES_UNTIL_SUSPENSION - self.in_a_row,
        )
        # A clock set back can bring twenty failures back whose lock has passed.
        return max(remaining, 1)

    def failed(self, now: datetime) -> "Throttle":
        """The state after a wrong code."""
        in_a_row = self.in_a_row + 1
        recent = (*self._within_window(now), now)[-FAILURES_PER_WINDOW:]
        locks = []
        if in_a_row % FAILURES_PER_LOCK == 0:
            level = in_a_row // FAILURES_PER_LOCK - 1
            locks.append(now + LOCKS[min(level, len(LOCKS) - 1)])
        if len(recent) == FAILURES_PER_WINDOW:
            locks.append(recent[0] + WINDOW)
        return Throttle(in_a_row, recent, max(locks, default=None))

    def succeeded(self, forgiven: Iterable[datetime] = ()) -> "Throttle":
        """The state after a right code, less one failure of each forgiven instant."""
        return Throttle(recent=without(self.recent, forgiven))

    def _within_window(self, now: datetime) -> tuple[datetime, ...]:
        # A failure from the future (the clock was set back) still counts.
        return tuple(at for at in self.recent if now - at < WINDOW)


def without(failures: tuple[datetime, ...], forgiven: Iterable[datetime]) -> tuple[datetime, ...]:
    """The failures less one of each forgiven instant; instants that are not among them are none."""
    left = list(failures)
    for at in forgiven:
        if at in left:
            left.remove(at)
    return tuple(left)
