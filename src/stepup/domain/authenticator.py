"""An active authenticator, and what one attempt with a code does to it."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum, unique

from stepup.domain.actor import SessionHash, TenantId, UserId
from stepup.domain.session_throttle import ONE_TIME_CODES, RESET_CODES, SessionThrottle
from stepup.domain.throttle import Throttle
from stepup.domain.totp import end_of_step

_INSTANT = timedelta(microseconds=1)
_BETWEEN_REFUSALS = timedelta(minutes=1)
_NO_WRONG_CODES = SessionThrottle(ONE_TIME_CODES)
_NO_WRONG_RESET_CODES = SessionThrottle(RESET_CODES)


@dataclass(frozen=True, slots=True)
class SealedSecret:
    """A secret encrypted at rest, and the id of the key that opens it (S6)."""

    key_id: str
    ciphertext: bytes


@unique
class Attempt(Enum):
    """What became of a code. Outside, `WRONG` and `REPLAYED` look the same."""

    VERIFIED = "verified"
    WRONG = "wrong"
    REPLAYED = "replayed"
    THROTTLED = "throttled"
    SUSPENDED = "suspended"
    SESSION_SPENT = "session_spent"

    @property
    def was_evaluated(self) -> bool:
        """Whether the code was looked at, so that the attempt has to be committed (S3)."""
        return self in (Attempt.VERIFIED, Attempt.WRONG, Attempt.REPLAYED)


@dataclass(frozen=True, slots=True)
class Authenticator:
    """The authenticator in force of one user.

    `last_step` is the latest time step that a code was accepted for: no step up to it is accepted
    again (S2). `refused_at` is when an attempt that was refused without a look at its code was last
    put on record. `version` counts its changes, for compare-and-set.
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
    version: int = 0

    def elevated_through(self, back_steps: int) -> datetime:
        """The latest instant, by whatever clock, at which it can have elevated a session so far.

        Its enrollment did so when it was completed, and its codes did so within the steps that
        accept them. A code that comes later has a later step: with no back steps it is dated later.

        Args:
            back_steps: for how many steps after its own a code is accepted.
        """
        last = end_of_step(self.last_step + back_steps) - _INSTANT
        return max(self.activated_at, last)

    def refusal(self, session_hash: SessionHash, now: datetime) -> Attempt | None:
        """Why no code of the session is looked at now, if so.

        A spent session comes first: whoever guesses in it does not learn when the lock ends, and
        the person has to sign in anew in any case.
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

    def attempted(
        self, step: int | None, session_hash: SessionHash, now: datetime
    ) -> tuple["Authenticator", Attempt]:
        """The authenticator after a code, and what became of the code.

        Args:
            step: the time step that the code fits, None when it is wrong.
            session_hash: the session that typed it.
            now: when the code was received.
        """
        if step is not None and step > self.last_step:
            accepted = replace(self, last_step=step, throttle=self.throttle.succeeded())
            return accepted, Attempt.VERIFIED
        rejected = replace(
            self,
            throttle=self.throttle.failed(now),
            sessions=self.sessions.failed(session_hash, now),
        )
        return rejected, Attempt.WRONG if step is None else Attempt.REPLAYED


@dataclass(frozen=True, slots=True)
class ResetCodeRecord:
    """The reset code of an active authenticator: a keyed hash, and its own throttle (S5, S8).

    The throttle is each session's own (S4): no session can keep another one from its reset code.

    The hash has a key of its own, which is sealed: it can be sealed anew without the code.
    """

    tenant_id: TenantId
    user_id: UserId
    enrollment_id: str
    sealed_key: SealedSecret
    digest: bytes
    sessions: SessionThrottle = _NO_WRONG_RESET_CODES
    version: int = 0
