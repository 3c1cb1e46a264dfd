"""Attempts that are refused without a look at the code, on record (S4)."""

from stepup.domain.audit import EventKind
from stepup.domain.authenticator import Attempt, Authenticator
from stepup.service.calls.context import Context
from stepup.service.ports import Records


async def record_refusal(
    records: Records, context: Context, authenticator: Authenticator, cause: Attempt, codes: str
) -> None:
    """Record a refused attempt, unless one of this person is on record within the last minute.

    All workers together write one event a minute and person at most, however many attempts come.

    Args:
        records: of the transaction that found the authenticator.
        context: of the attempt.
        authenticator: of the person, in force.
        cause: why the code was not looked at.
        codes: which throttle refused: `one_time` or `reset`.
    """
    noted = authenticator.refused(context.now)
    if noted is None:
        return
    await records.authenticators.save(noted)
    await records.audit.append(
        context.event(
            EventKind.ATTEMPTS_REFUSED,
            enrollment_id=noted.enrollment_id,
            codes=codes,
            cause=cause.value,
        )
    )
