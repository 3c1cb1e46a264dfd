"""An active authenticator, and what one attempt with a code does to it."""

from dataclasses import replace
from datetime import datetime, timedelta
from enum import Enum, unique
from typing import Final

from stepup.domain.actor import SessionHash, TenantId, UserId
from stepup.domain.code_history import CodeHistory, ForgivableFailure, UsedCode
from stepup.domain.errors import EnrollmentFault, EnrollmentStateError, UnlockLimitError
from stepup.domain.throttle import ONE_TIME_CODES, RESET_CODES, SessionThrottle, Throttle
from stepup.domain.totp import StepMatch, end_of_step, time_step
from stepup.domain.values import value

_INSTANT = timedelta(microseconds=1)
_BETWEEN_REFUSALS = timedelta(minutes=1)
UNLOCKS_PER_DAY: Final = 3
_DAY = timedelta(hours=24)
_NO_WRONG_CODES = SessionThrottle(ONE_TIME_CODES)
_NO_CODES = CodeHistory()
_NO_WRONG_RESET_CODES = SessionThrottle(RESET_CODES)


@value
class SealedSecret:
    """A secret encrypted at rest, and the id of the key that opens it (S6)."""

    key_id: str
    ciphertext: bytes


@unique
class Attempt(Enum):
    """The result of an attempt with a code; outside, the five kinds of refused codes are one.

    A code is `REPEATED` that its session last used, `LATE` or `EARLY` that is right one step before
    or after those that are accepted, `REPLAYED` whose step was used before, `WRONG` any other.
    """

    VERIFIED = "verified"
    WRONG = "wrong"
    REPLAYED = "replayed"
    REPEATED = "repeated"
    LATE = "late"
    EARLY = "early"
    THROTTLED = "throttled"
    SUSPENDED = "suspended"
    SESSION_SPENT = "session_spent"

    @property
    def counts_nowhere(self) -> bool:
        """Whether it costs no attempt, and the answer says when the next code begins (S22)."""
        return self in (Attempt.REPEATED, Attempt.LATE)


@value
class Authenticator:
    """The authenticator in force of one user.

    `last_step` is the latest time step that a code was accepted for: no step up to it is accepted
    again (S2). `refused_at` is when an attempt that was refused without a look at its code was last
    put on record. `history` separates honest repetition from guessing (S22). `version` counts
    its changes, for compare-and-set.

    `generation` is 1 for an authenticator that replaced none, and one more than that of the one it
    replaced. `enrolled_session` is the session whose wizard brought it into force; None where a
    server of an earlier version stored it, and where it was imported. `unlocked_at` has when others
    ended its lock within the last 24 hours, oldest first.
    """

    tenant_id: TenantId
    user_id: UserId
    enrollment_id: str
    sealed_secret: SealedSecret
    activated_at: datetime
    last_step: int
    throttle: Throttle = Throttle()
    sessions: SessionThrottle = _NO_WRONG_CODES
    refused_at: datetime | None = None
    history: CodeHistory = _NO_CODES
    version: int = 0
    generation: int = 1
    enrolled_session: SessionHash | None = None
    unlocked_at: tuple[datetime, ...] = ()

    def elevated_through(self, back_steps: int) -> datetime:
        """The latest instant, by whatever clock, at which it has elevated a session so far.

        What it elevates later is dated later, unless a clock is behind by more than the time
        between the two. Where a server of the release before accepted the last code, the instant of
        that is not stored, and the answer is the last one at which the code can be accepted.

        Args:
            back_steps: for how many steps after its own a code is accepted.
        """
        used = self.history.used
        instants = [self.activated_at, *(code.used_at for code in used)]
        if not used or used[-1].step != self.last_step:
            instants.append(end_of_step(self.last_step + back_steps) - _INSTANT)
        return max(instants)

    def refusal(self, session_hash: SessionHash, now: datetime) -> Attempt | None:
        """Why no code of the session is evaluated now; None if codes are evaluated.

        A spent session comes first: a guesser in it does not learn when the lock ends, and the
        person must sign in again in any case.
        """
        if self.is_spent(session_hash, now):
            return Attempt.SESSION_SPENT
        if self.throttle.is_suspended:
            return Attempt.SUSPENDED
        return None if self.throttle.permits_attempt(now) else Attempt.THROTTLED

    def is_spent(self, session_hash: SessionHash, now: datetime) -> bool:
        """Whether the session typed so many wrong codes that none of its codes is looked at."""
        return bool(self.sessions.retry_after(session_hash, now))

    def attempts_remaining(self, session_hash: SessionHash, now: datetime) -> int:
        """How many wrong codes are left to the session before it is spent or the next lock."""
        return min(
            self.throttle.attempts_remaining(now),
            self.sessions.attempts_remaining(session_hash, now),
        )

    def refused(self, now: datetime) -> "Authenticator | None":
        """The authenticator after a refusal that is put on record; None within a minute of one."""
        # Both ways: the clock may have been set back.
        if self.refused_at is not None and abs(now - self.refused_at) < _BETWEEN_REFUSALS:
            return None
        return replace(self, refused_at=now)

    def unlocks_remaining(self, now: datetime) -> int:
        """How often others may end its lock within the next 24 hours."""
        return max(UNLOCKS_PER_DAY - len(self._unlocked_within_a_day(now)), 0)

    def unlocked(self, now: datetime) -> "Authenticator":
        """The authenticator after an administrator or an operator ended its lock.

        It is the same if it is not locked. Spent sessions stay spent.

        Raises:
            EnrollmentStateError: it is suspended: only a reset helps.
            UnlockLimitError: it was unlocked three times within 24 hours.
        """
        if self.throttle.is_suspended:
            raise EnrollmentStateError(
                EnrollmentFault.SUSPENDED,
                "the user is suspended after too many wrong codes: only a reset helps",
            )
        if not self.throttle.retry_after(now):
            return self
        earlier = self._unlocked_within_a_day(now)
        if len(earlier) >= UNLOCKS_PER_DAY:
            raise UnlockLimitError(earlier[-UNLOCKS_PER_DAY] + _DAY - now)
        return replace(self, throttle=self.throttle.unlocked(), unlocked_at=(*earlier, now))

    def _unlocked_within_a_day(self, now: datetime) -> tuple[datetime, ...]:
        # An unlock from the future (the clock was set back) still counts.
        return tuple(at for at in self.unlocked_at if now - at < _DAY)

    def attempted(
        self, matched: StepMatch, session_hash: SessionHash, now: datetime
    ) -> tuple["Authenticator", Attempt]:
        """The authenticator after a code, and the result of the attempt.

        A repeated or a late code counts nowhere. A replayed one counts once in each step. Early and
        replayed codes count until the next right code of their own step or a later one (S22).

        Args:
            matched: where the code fits.
            session_hash: the session that typed it.
            now: when the code was received.
        """
        if matched.step is not None and matched.step > self.last_step:
            return self._verified(matched.step, session_hash, now), Attempt.VERIFIED
        cause = _cause_of_refusal(matched)
        history: CodeHistory | None = self.history
        if cause.counts_nowhere or cause is Attempt.REPLAYED:
            history = self.history.note(cause.value, time_step(now))
        if history is None:
            return self, cause
        if cause.counts_nowhere:
            return replace(self, history=history), cause
        if cause is not Attempt.WRONG:
            step = time_step(now) + 1 if matched.step is None else matched.step
            history = history.after_failure(ForgivableFailure(session_hash, now, step))
        failed = replace(
            self,
            throttle=self.throttle.failed(now),
            sessions=self.sessions.failed(session_hash, now),
            history=history,
        )
        return failed, cause

    def _verified(self, step: int, session_hash: SessionHash, now: datetime) -> "Authenticator":
        forgiven = [(each.session_hash, each.failed_at) for each in self.history.forgiven_by(step)]
        return replace(
            self,
            last_step=step,
            throttle=self.throttle.succeeded(at for _, at in forgiven),
            sessions=self.sessions.forgive(forgiven),
            history=self.history.after_use(UsedCode(session_hash, step, now)),
        )


def _cause_of_refusal(matched: StepMatch) -> Attempt:
    if matched.is_repeated:
        return Attempt.REPEATED
    if matched.step is not None:
        return Attempt.REPLAYED
    return {-1: Attempt.LATE, 0: Attempt.WRONG, 1: Attempt.EARLY}[matched.near_miss]


@value
class ResetCodeRecord:
    """The reset code of an active authenticator: a keyed hash, and its own throttle (S5, S8).

    The throttle is each session's own (S4): no session can keep another one from its reset code.

    The hash has a key of its own, which is sealed: it can be sealed again without the code.
    """

    tenant_id: TenantId
    user_id: UserId
    enrollment_id: str
    sealed_key: SealedSecret
    digest: bytes
    sessions: SessionThrottle = _NO_WRONG_RESET_CODES
    version: int = 0
