"""`CancelEnrollment`: delete the wizard of this session."""

from dataclasses import dataclass

from stepup.domain.audit import EventKind
from stepup.service.calls.context import Context
from stepup.service.ports import Database


@dataclass(frozen=True, slots=True)
class CancelEnrollment:
    """Deletes a pending enrollment; an active authenticator stays in force."""

    database: Database

    async def __call__(self, context: Context) -> None:
        """Delete the session's wizard; without one nothing changes.

        Raises:
            StoreUnavailableError: nothing was cancelled.
        """
        actor = context.actor
        async with self.database.transaction(actor.tenant_id) as records:
            if await records.pending.remove(actor.tenant_id, actor.user_id, actor.session_hash):
                await records.audit.append(context.event(EventKind.ENROLLMENT_CANCELLED))
