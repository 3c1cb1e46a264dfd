"""One attempt with a reset code, under its own throttle, apart from the codes' (S5, S8)."""

from dataclasses import dataclass, replace
from datetime import timedelta

from stepup.domain.audit import EventKind, written
from stepup.domain.authenticator import Attempt, Authenticator
from stepup.domain.errors import EnrollmentFault, EnrollmentStateError
from stepup.domain.reset_code import ResetCode
from stepup.service.calls.context import Context
from stepup.service.ports import Keys, Records
from stepup.service.step_up.attempts import record_refusal


@dataclass(frozen=True, slots=True)
class ResetAttempt:
    """The outcome of an attempt with a reset code."""

    outcome: Attempt
    attempts_remaining: int
    retry_after: timedelta

    @property
    def is_accepted(self) -> bool:
        """Whether the code was right."""
        return self.outcome is Attempt.VERIFIED


async def try_reset_code(
    records: Records, keys: Keys, context: Context, active: Authenticator, code: ResetCode
) -> ResetAttempt:
    """Compare a reset code with the stored one, inside the transaction that acts on the outcome.

    A wrong or refused code is recorded: the caller must let the transaction commit. A right code
    stays valid until the caller removes the authenticator.

    Raises:
        EnrollmentStateError: the authenticator has no reset code.
    """
    actor, now = context.actor, context.now
    session = actor.session_hash
    record = await records.reset_codes.find_for_update(actor.tenant_id, actor.user_id)
    if record is None:
        raise EnrollmentStateError(
            EnrollmentFault.NO_RESET_CODE,
            "the authenticator in force has no reset code: a Master Administrator can reset it",
        )
    if record.sessions.retry_after(session, now):
        outcome = Attempt.THROTTLED
        await record_refusal(records, context, active, outcome, "reset")
    elif keys.is_reset_code(code, record):
        outcome = Attempt.VERIFIED
    else:
        outcome = Attempt.WRONG
        record = replace(record, sessions=record.sessions.failed(session, now))
        await records.reset_codes.save(record)
        lock = record.sessions.retry_after(session, now)
        await records.audit.append(
            context.event(
                EventKind.RESET_CODE_REJECTED,
                enrollment_id=record.enrollment_id,
                attempts_remaining=record.sessions.attempts_remaining(session, now),
                locked_until=written(now + lock) if lock else None,
            )
        )
    return ResetAttempt(
        outcome,
        record.sessions.attempts_remaining(session, now),
        record.sessions.retry_after(session, now),
    )
