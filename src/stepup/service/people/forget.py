"""`ForgetUser`: deletes what is in force for a user who left."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from stepup.domain.actor import UserId
from stepup.domain.audit import EventKind
from stepup.domain.changes import Revocation
from stepup.domain.person import EndedBy, PastAuthenticator
from stepup.domain.text import StatedReason
from stepup.service.calls.context import AnyContext
from stepup.service.challenges.end import revoke_challenges
from stepup.service.enrollment.account_mfa import account_mfa_changed
from stepup.service.enrollment.end import end_of
from stepup.service.people.authority import authority_of, demand_authority, reason_details
from stepup.service.people.tallies import count_act
from stepup.service.ports import Database, Records
from stepup.service.step_up.elevated import Elevated, demand_unrevoked
from stepup.service.step_up.revocation import Revoker, revocation_of_user

_KINDS: Final[Mapping[EndedBy, EventKind]] = {
    EndedBy.ADMINISTRATOR: EventKind.USER_FORGOTTEN,
    EndedBy.OPERATOR: EventKind.USER_FORGOTTEN_BY_OPERATOR,
    EndedBy.DEPROVISIONING: EventKind.USER_DEPROVISIONED,
}


@dataclass(frozen=True, slots=True)
class ForgetUser:
    """Forgets users: a later person with the same id starts clean, but has no time to enrol."""

    database: Database
    elevated: Elevated
    revoker: Revoker
    back_steps: int = 0

    async def __call__(
        self, context: AnyContext, user_id: UserId, reason: StatedReason | None
    ) -> None:
        """Delete everything in force for the user, and void what was allowed up to now.

        The call succeeds also for a user whom the service does not know, and has its event each
        time: each request is recorded, and the answer to an earlier call may have been lost.

        Raises:
            RoleRequiredError: the actor is a person and not a Master Administrator.
            NotForOneselfError: the user is the actor.
            ElevationRequiredError: the session of the administrator is not elevated.
            StoreUnavailableError: nothing was deleted.
        """
        elevation = await demand_authority(self.elevated, context, user_id, "forgetting a user")
        authority = authority_of(context)
        async with self.database.transaction(context.tenant_id) as records:
            changes = await self._forget(records, context, user_id, authority, reason)
            if elevation is not None:
                await demand_unrevoked(records, elevation)  # with the lock of the audit chain
        count_act(_KINDS[authority])
        for change in changes:
            await self.revoker.put_into_effect(change, context.now)

    async def _forget(
        self,
        records: Records,
        context: AnyContext,
        user_id: UserId,
        authority: EndedBy,
        reason: StatedReason | None,
    ) -> list[Revocation]:
        tenant_id, now, kind = context.tenant_id, context.now, _KINDS[authority]
        # The authenticator, or its absence, first: everything that ends one takes its locks in
        # this order.
        active = await records.authenticators.find_for_update(tenant_id, user_id)
        # The revocation also voids, by their time, the permissions of earlier authenticators.
        changes: list[Revocation] = [
            revocation_of_user(tenant_id, user_id, active, now, self.back_steps)
        ]
        challenges = await revoke_challenges(records, tenant_id, user_id, now)
        if active is not None:
            changes.append(end_of(active))
            await records.authenticators.remove(active)
        await records.pending.remove(tenant_id, user_id)
        turns_off = await records.accounts.mfa_enabled_for_update(tenant_id, user_id)
        await records.accounts.remove(tenant_id, user_id)
        await records.asked.remove(tenant_id, user_id)
        await records.past.remember(tenant_id, user_id, PastAuthenticator(now, authority))
        for change in changes:
            await records.changes.announce(change, now)
        event = context.event(
            kind,
            user_id,
            enrollment_id=active.enrollment_id if active else None,
            **challenges,
            **reason_details(reason),
        )
        await records.audit.append(event)
        if turns_off:
            await records.audit.append(
                account_mfa_changed(context, user_id, enabled=False, cause=kind)
            )
        # With the lock of the audit chain: no earlier event keeps its device.
        await records.clients.forget(tenant_id, user_id)
        return changes
