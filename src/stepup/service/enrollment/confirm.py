"""`ConfirmEnrollment`, the second screen: a code proves the secret, and gives a reset code."""

from dataclasses import dataclass
from datetime import timedelta

from stepup.domain.audit import EventKind
from stepup.domain.enrollment import EnrollmentState, PendingEnrollment
from stepup.domain.reset_code import ResetCode
from stepup.domain.totp import OtpCode, match, next_code_after
from stepup.service.calls.context import Context
from stepup.service.calls.tallies import count_near_miss
from stepup.service.enrollment.wizard import find_active, find_open_for_update, nothing_pending
from stepup.service.ports import Database, Keys, Records


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The answer to a code: a reset code if it was right, and how many tries are left.

    `next_code_after` is set if the code has confirmed the wizard before, or was one step late.
    """

    reset_code: ResetCode | None
    tries_remaining: int
    next_code_after: timedelta = timedelta()


@dataclass(frozen=True, slots=True)
class ConfirmEnrollment:
    """Checks codes of the wizard. Their steps are used up for the new authenticator, too (S2)."""

    database: Database
    keys: Keys
    back_steps: int = 0

    async def __call__(self, context: Context, code: OtpCode) -> Confirmation:
        """Confirm with a code; the fifth wrong one ends the wizard (S7).

        A confirmed wizard accepts a further code, and replaces its reset code. The code that
        confirmed it, sent again, and a code that is one step late change nothing and are not
        counted (S22).

        Raises:
            EnrollmentStateError: no wizard is open.
            StoreUnavailableError: nothing was confirmed.
        """
        async with self.database.transaction(context.actor.tenant_id) as records:
            pending = await find_open_for_update(records, context)
            if pending is not None:
                return await self._record_attempt(records, context, pending, code)
        raise nothing_pending(context, await find_active(self.database, context))

    async def _record_attempt(
        self, records: Records, context: Context, pending: PendingEnrollment, code: OtpCode
    ) -> Confirmation:
        secret = self.keys.open(
            pending.sealed_secret, pending.tenant_id, pending.user_id, pending.enrollment_id
        )
        matched = match(secret, code, context.now, self.back_steps, pending.confirmed_step)
        count_near_miss(matched)
        after = pending.confirmed(matched)
        if after == pending:
            return Confirmation(None, pending.tries_remaining, next_code_after(context.now))
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
                EventKind.ENROLLMENT_CONFIRMED,
                enrollment_id=after.enrollment_id,
                again=pending.state is EnrollmentState.CONFIRMED,
            )
        await records.audit.append(event)
        return Confirmation(reset_code, after.tries_remaining)
