"""Throttling of wrong codes (S4; SP 800-63B-4 §3.2.2, RFC 4226 §7.3).

Five wrong codes in a row lock for 15 minutes, the next five for 30, each further five for 60.
Twenty within a rolling 24 hours lock until the oldest of them is a day old. A hundred in a row
suspend until a reset. A right code ends the row; out of the 24 hours it takes what is forgiven.

Beside the person's own throttle, each session has one. Ten wrong one-time codes within 24 hours
spend a session: none of its codes is evaluated until the person signs in again. Ten wrong reset
codes within an hour make a session wait for 15 minutes.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from stepup.domain.actor import SessionHash
from stepup.domain.values import value

FAILURES_PER_LOCK = 5
LOCKS = (timedelta(minutes=15), timedelta(minutes=30), timedelta(minutes=60))
WINDOW = timedelta(hours=24)
FAILURES_PER_WINDOW = 20
FAILURES_UNTIL_SUSPENSION = 100
FAILURES_PER_SESSION: Final = 10


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

    def unlocked(self) -> "Throttle":
        """The state after an administrator or an operator ended the lock.

        The failures of the last 24 hours are forgotten; those in a row are not.
        """
        return Throttle(self.in_a_row)

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


@value
class SessionRule:
    """Ten failures within `window` lock a session for `lock`.

    At most `remembered` sessions of one person are known, those that failed last.
    """

    window: timedelta
    lock: timedelta
    remembered: int


# A spent session is remembered for 30 days, which no sign-in should outlive. The person's budget of
# 20 failures a day (S4) spends two sessions a day: no more than 80 sessions ever count at a time.
ONE_TIME_CODES: Final = SessionRule(timedelta(hours=24), timedelta(days=30), 80)
# No budget bounds these sessions. To forget one lets somebody guess sooner, at 128 bits (S8).
RESET_CODES: Final = SessionRule(timedelta(hours=1), timedelta(minutes=15), 20)


@value
class FailedSession:
    """The latest wrong codes of one session, oldest first, or the lock that they led to."""

    session_hash: SessionHash
    recent: tuple[datetime, ...] = ()
    locked_until: datetime | None = None


@value
class SessionThrottle:
    """What each session of one person may still try. `failed_sessions` has the latest one last."""

    rule: SessionRule
    failed_sessions: tuple[FailedSession, ...] = ()

    def retry_after(self, session_hash: SessionHash, now: datetime) -> timedelta:
        """How long the session's lock lasts; zero when it may try."""
        return _lock(self._find(session_hash), now)

    def attempts_remaining(self, session_hash: SessionHash, now: datetime) -> int:
        """How many wrong codes are left to the session; 0 while it is locked."""
        found = self._find(session_hash)
        if _lock(found, now):
            return 0
        # A clock set back can bring failures back.
        return max(FAILURES_PER_SESSION - len(self._within_window(found, now)), 1)

    def failed(self, session_hash: SessionHash, now: datetime) -> "SessionThrottle":
        """The state after a wrong code of a session."""
        recent = (*self._within_window(self._find(session_hash), now), now)
        if len(recent) >= FAILURES_PER_SESSION:
            failed = FailedSession(session_hash, locked_until=now + self.rule.lock)
        else:
            failed = FailedSession(session_hash, recent)
        others = (
            each
            for each in self.failed_sessions
            if each.session_hash != session_hash
            and (_lock(each, now) or self._within_window(each, now))
        )
        return SessionThrottle(self.rule, (*others, failed)[-self.rule.remembered :])

    def forgive(self, forgiven: Collection[tuple[SessionHash, datetime]]) -> "SessionThrottle":
        """The state less failures, each by session and instant; a locked session stays locked."""
        return replace(
            self,
            failed_sessions=tuple(
                replace(
                    each,
                    recent=without(
                        each.recent,
                        [at for session, at in forgiven if session == each.session_hash],
                    ),
                )
                for each in self.failed_sessions
            ),
        )

    def _find(self, session_hash: SessionHash) -> FailedSession:
        for each in self.failed_sessions:
            if each.session_hash == session_hash:
                return each
        return FailedSession(session_hash)

    def _within_window(self, session: FailedSession, now: datetime) -> tuple[datetime, ...]:
        # A failure from the future (the clock was set back) still counts.
        return tuple(at for at in session.recent if now - at < self.rule.window)


def _lock(session: FailedSession, now: datetime) -> timedelta:
    if session.locked_until is None:
        return timedelta()
    return max(session.locked_until - now, timedelta())
