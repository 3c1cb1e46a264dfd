"""`GetEnrollment`: the state of a user's enrollment."""

from dataclasses import dataclass

from stepup.domain.authenticator import Authenticator
from stepup.domain.enrollment import PendingEnrollment
from stepup.service.calls.context import Context
from stepup.service.enrollment.open_wizard import is_open
from stepup.service.ports import Database


async def find_active(database: Database, context: Context) -> Authenticator | None:
    """Return the actor's active authenticator, as it was committed before the call.

    Raises:
        StoreUnavailableError: the database cannot be read.
    """
    async with database.snapshot(context.actor.tenant_id) as records:
        return await records.authenticators.find(context.actor.tenant_id, context.actor.user_id)


@dataclass(frozen=True, slots=True)
class Standing:
    """The active authenticator, the wizard open in this session, the account's own toggle."""

    active: Authenticator | None
    pending: PendingEnrollment | None
    account_mfa_enabled: bool


@dataclass(frozen=True, slots=True)
class GetEnrollment:
    """Reads the state of a user's enrollment."""

    database: Database

    async def __call__(self, context: Context) -> Standing:
        """Return the actor's standing; an expired or revoked wizard is left out.

        Raises:
            StoreUnavailableError: the database cannot be read.
        """
        actor = context.actor
        async with self.database.snapshot(context.actor.tenant_id) as records:
            active = await records.authenticators.find(actor.tenant_id, actor.user_id)
            pending = await records.pending.find(actor.tenant_id, actor.user_id, actor.session_hash)
            if pending is not None and not await is_open(records, pending, context.now):
                pending = None
            account_mfa = await records.accounts.mfa_enabled(actor.tenant_id, actor.user_id)
        return Standing(active, pending, account_mfa)
