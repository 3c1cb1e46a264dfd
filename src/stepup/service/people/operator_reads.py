"""Records the reads of operators (S16)."""

from stepup.domain.actor import UserId
from stepup.domain.audit import EventKind
from stepup.service.calls.context import AnyContext, Context
from stepup.service.people.tallies import count_act
from stepup.service.ports import Database


async def record_operator_read(
    database: Database, context: AnyContext, method: str, subject: UserId | None = None
) -> None:
    """Record that an operator reads, before the answer; a person's read is not recorded.

    Args:
        database: has the tenant's audit trail.
        context: the call.
        method: the name of the method in the rules of callers: `PeopleService/GetPerson`.
        subject: the person whose data the operator reads; None for a list of the tenant.

    Raises:
        StoreUnavailableError: the read could not be recorded, and must not be answered.
    """
    if isinstance(context, Context):
        return
    async with database.transaction(context.tenant_id) as records:
        await records.audit.append(context.event(EventKind.OPERATOR_READ, subject, method=method))
    count_act(EventKind.OPERATOR_READ)
