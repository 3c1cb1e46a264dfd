"""`ConfirmEnrollment`, the second screen: the app holds the secret; here is the reset code."""

from dataclasses import dataclass

from stepup.domain.audit import EventKind
from stepup.domain.enrollment import PendingEnrollment
from stepup.domain.errors import EnrollmentStateError
from stepup.domain.reset_code import ResetCode
from stepup.domain.totp import OtpCode, match
from stepup.service.context import Context
from stepup.service.ports import Database, Keys, Records
from stepup.service.tallies import count_near_miss


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What became of the first code: a reset code, or how many tries are left."""

    reset_code: ResetCode | None
    tries_remaining: int


async def require_pending(records: Records, context: Context) -> PendingEnrollment:
    """The wizard that is open in this session.

    Raises:
        EnrollmentStateError: there is none, or its ten minutes or five tries are over.
    """
    actor = context.actor
    pending = await records.pending.find(actor.tenant_id, actor.user_id, actor.session_hash)
    if pending is None or not pending.is_live(context.now):
        raise EnrollmentStateError("no enrollment is pending in this session, or it has expired")
    return pending


@dataclass(frozen=True, slots=True)
class ConfirmEnrollment:
    """Checks the first code. It is used up: completion starts the authenticator after it (S2)."""

    database: Database
    keys: Keys
    back_steps: int = 0

    async def __call__(self, context: Context, code: OtpCode) -> Confirmation:
        """Confirm with a code; the fifth wrong one ends the wizard (S7).

        Raises:
            EnrollmentStateError: nothing is pending, or it is confirmed already.
            StoreUnavailableError: nothing was confirmed.
        """
        async with self.database.transaction() as records:
            pending = await require_pending(records, context)
            secret = self.keys.open(
                pending.sealed_secret, pending.tenant_id, pending.user_id, pending.enrollment_id
            )
            matched = match(secret, code, context.now, self.back_steps)
            count_near_miss(matched)
            after = pending.confirmed(matched.step)
            if matched.step is None:
                await records.pending.save(after)
                event = context.event(
                    EventKind.ENROLLMENT_REJECTED,
                    enrollment_id=after.enrollment_id,
                    near_miss=matched.near_miss,
                    tries_remaining=after.tries_remaining,
                )
                reset_code = None
            else:
                reset_code = ResetCode.generate()
                record = self.keys.record_reset_code(
                    reset_code, after.tenant_id, after.user_id, after.enrollment_id
                )
                await records.pending.save(after, record)
                event = context.event(
                    EventKind.ENROLLMENT_CONFIRMED, enrollment_id=after.enrollment_id
                )
            await records.audit.append(event)
        return Confirmation(reset_code, after.tries_remaining)
