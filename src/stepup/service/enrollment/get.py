"""`GetEnrollment`: where a user stands."""

from dataclasses import dataclass

from stepup.domain.authenticator import Authenticator
from stepup.domain.enrollment import PendingEnrollment
from stepup.service.calls.context import Context
from stepup.service.enrollment.open_wizard import is_open
from stepup.service.ports import Database


async def find_active(database: Database, context: Context) -> Authenticator | None:
    """The actor's authenticator in force, as it was committed before the call; nothing is locked.

    Raises:
        StoreUnavailableError: it cannot be read.
    """
    async with database.snapshot(context.actor.tenant_id) as records:
        return await records.authenticators.find(context.actor.tenant_id, context.actor.user_id)


@dataclass(frozen=True, slots=True)
class Standing:
    """The authenticator in force, the wizard open in this session, the account's own toggle."""

    active: Authenticator | None
    pending: PendingEnrollment | None
    account_mfa_enabled: bool


@dataclass(frozen=True, slots=True)
class GetEnrollment:
    """Reads where a user stands."""

    database: Database

    async def __call__(self, context: Context) -> Standing:
        """The actor's standing; a wizard that expired or is revoked is none.

        Raises:
            StoreUnavailableError: it cannot be read.
        """
        actor = context.actor
        async with self.database.snapshot(context.actor.tenant_id) as records:
            active = await records.authenticators.find(actor.tenant_id, actor.user_id)
            pending = await records.pending.find(actor.tenant_id, actor.user_id, actor.session_hash)
            if pending is not None and not await is_open(records, pending, context.now):
                pending = None
            account_mfa = await records.accounts.mfa_enabled(actor.tenant_id, actor.user_id)
        return Standing(active, pending, account_mfa)
