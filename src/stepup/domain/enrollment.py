"""The enrollment wizard's states: pending, confirmed, and then an active authenticator.

A pending enrollment grants nothing and replaces nothing. It is bound to the session that began it,
lasts ten minutes, and takes five codes (S7).
"""

from dataclasses import replace
from datetime import datetime, timedelta
from enum import Enum, unique

from stepup.domain.actor import SessionHash, TenantId, UserId
from stepup.domain.authenticator import Authenticator, SealedSecret
from stepup.domain.changes import UserRevocations
from stepup.domain.code_history import CodeHistory, UsedCode
from stepup.domain.elevation import CLOCK_TOLERANCE
from stepup.domain.errors import EnrollmentFault, EnrollmentStateError
from stepup.domain.totp import Label, StepMatch
from stepup.domain.values import value

PENDING_LIFETIME = timedelta(minutes=10)
CONFIRM_TRIES = 5


@unique
class EnrollmentState(Enum):
    """The screen that comes next."""

    PENDING = "pending"
    CONFIRMED = "confirmed"


@value
class PendingEnrollment:
    """A wizard that has not been completed.

    `account_name` and `issuer` are what the authenticator app shows; the issuer is None where a
    server of an earlier version stored the wizard. `replaces` is the enrollment that was active
    when the wizard was opened, and that this one was permitted to replace. `by_reset_code` says
    that a reset code permitted it, which completion uses up. `elevated_at` is when the code of the
    elevation that permitted it was received; None without one, and where a server of an earlier
    version stored the wizard. `confirmed_step` is the time step of the latest confirming code.
    """

    tenant_id: TenantId
    user_id: UserId
    session_hash: SessionHash
    enrollment_id: str
    sealed_secret: SealedSecret
    account_name: Label
    expires_at: datetime
    issuer: Label | None = None
    replaces: str | None = None
    by_reset_code: bool = False
    elevated_at: datetime | None = None
    failures: int = 0
    confirmed_step: int | None = None
    version: int = 0

    @property
    def state(self) -> EnrollmentState:
        """How far the wizard has come."""
        return EnrollmentState.PENDING if self.confirmed_step is None else EnrollmentState.CONFIRMED

    @property
    def tries_remaining(self) -> int:
        """How many wrong codes it still takes."""
        return CONFIRM_TRIES - self.failures

    def is_live(self, now: datetime) -> bool:
        """Whether the wizard can continue."""
        return now < self.expires_at and self.tries_remaining > 0

    @property
    def rests_on_elevation(self) -> bool:
        """Whether an elevation permitted it; a first enrollment and a reset code need none."""
        return self.replaces is not None and not self.by_reset_code

    def is_revoked(self, revocations: UserRevocations) -> bool:
        """Whether the elevation that permitted it was revoked, for its user and session (S10).

        Where a server of an earlier version stored the wizard, it counts as revoked after any
        revocation since its beginning, or so shortly before it that the server may not have known.
        """
        begun_at = self.expires_at - PENDING_LIFETIME
        elevated_at = self.elevated_at or begun_at - CLOCK_TOLERANCE
        return self.rests_on_elevation and revocations.reaches(elevated_at)

    def confirmed(self, matched: StepMatch) -> "PendingEnrollment":
        """The wizard after a code.

        Until completion a code of a later step confirms the wizard again. A code that was used, or
        is one step late, leaves the wizard as it is (S2, S22).

        Args:
            matched: where the code fits; `confirmed_step` is the step that the session last used.
        """
        if matched.is_repeated or matched.near_miss < 0:
            return self
        if matched.step is None:
            return replace(self, failures=self.failures + 1)
        if self.confirmed_step is not None and matched.step <= self.confirmed_step:
            return self
        return replace(self, confirmed_step=matched.step)

    def completed(self, active: Authenticator | None, now: datetime) -> Authenticator:
        """The authenticator that comes into force in place of `active`.

        Raises:
            EnrollmentStateError: it is not confirmed, or something else became active meanwhile.
        """
        if self.confirmed_step is None:
            raise EnrollmentStateError(
                EnrollmentFault.NOT_CONFIRMED,
                "the enrollment is not confirmed: call ConfirmEnrollment with a code first",
            )
        if (active.enrollment_id if active else None) != self.replaces:
            raise EnrollmentStateError(
                EnrollmentFault.OTHER_AUTHENTICATOR,
                "the authenticator in force is another one than when the wizard was opened: call"
                " CancelEnrollment, then BeginEnrollment",
            )
        return Authenticator(
            tenant_id=self.tenant_id,
            user_id=self.user_id,
            enrollment_id=self.enrollment_id,
            sealed_secret=self.sealed_secret,
            activated_at=now,
            last_step=self.confirmed_step,
            history=CodeHistory((UsedCode(self.session_hash, self.confirmed_step, now),)),
            generation=active.generation + 1 if active else 1,
            enrolled_session=self.session_hash,
        )
