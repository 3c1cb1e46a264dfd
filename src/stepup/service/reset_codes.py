"""One attempt with a reset code, under its own throttle, apart from the codes' (S5, S8)."""

from dataclasses import dataclass, replace
from datetime import timedelta

from stepup.domain.audit import EventKind, written
from stepup.domain.authenticator import Attempt
from stepup.domain.errors import EnrollmentStateError
from stepup.domain.reset_code import ResetCode
from stepup.service.context import Context
from stepup.service.ports import Keys, Records


@dataclass(frozen=True, slots=True)
class ResetAttempt:
    """What became of a reset code."""

    outcome: Attempt
    attempts_remaining: int
    retry_after: timedelta

    @property
    def is_accepted(self) -> bool:
        """Whether the code was right."""
        return self.outcome is Attempt.VERIFIED


async def try_reset_code(
    records: Records, keys: Keys, context: Context, code: ResetCode
) -> ResetAttempt:
    """Look at a reset code, inside the transaction that acts on it.

    A wrong one is recorded: the caller must let the transaction commit. A right one is used up only
    by what removes the authenticator.

    Raises:
        EnrollmentStateError: the user has no active authenticator, and so no reset code.
    """
    actor, now = context.actor, context.now
    record = await records.reset_codes.find(actor.tenant_id, actor.user_id)
    if record is None:
        raise EnrollmentStateError("no authenticator is active")
    if record.throttle.is_suspended:
        outcome = Attempt.SUSPENDED
    elif not record.throttle.permits_attempt(now):
        outcome = Attempt.THROTTLED
    elif keys.is_reset_code(code, record):
        outcome = Attempt.VERIFIED
    else:
        outcome = Attempt.WRONG
        record = replace(record, throttle=record.throttle.failed(now))
        await records.reset_codes.save(record)
        locked_until = record.throttle.locked_until
        await records.audit.append(
            context.event(
                EventKind.RESET_CODE_REJECTED,
                enrollment_id=record.enrollment_id,
                failures_in_a_row=record.throttle.in_a_row,
                locked_until=written(locked_until) if locked_until else None,
                suspended=record.throttle.is_suspended,
            )
        )
    return ResetAttempt(
        outcome, record.throttle.attempts_remaining(now), record.throttle.retry_after(now)
    )
