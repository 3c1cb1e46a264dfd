"""The account's MFA toggle: set by the user (`SetAccountMfa`), and by the authenticator's life."""

from dataclasses import dataclass

from stepup.domain.actor import TenantId, UserId
from stepup.domain.audit import Event, EventKind
from stepup.domain.errors import EnrollmentFault, EnrollmentStateError, MfaEnforcedError
from stepup.domain.policy import Policy
from stepup.service.calls.context import Context, EventContext
from stepup.service.ports import Database, Records
from stepup.service.step_up.elevated import Elevated, demand_unrevoked


@dataclass(frozen=True, slots=True)
class SetAccountMfa:
    """Sets the toggle; setting its current state changes nothing."""

    database: Database
    elevated: Elevated

    async def __call__(self, context: Context, enabled: bool) -> None:
        """Turn the toggle on or off.

        Raises:
            EnrollmentStateError: turned on without an active authenticator.
            MfaEnforcedError: turned off while the tenant's policy is enabled.
            ElevationRequiredError: turned off without a live elevation.
            StoreUnavailableError: nothing was changed.
        """
        actor = context.actor
        async with self.database.snapshot(actor.tenant_id) as records:
            if await records.accounts.mfa_enabled(actor.tenant_id, actor.user_id) == enabled:
                return
            if not enabled:
                _demand_unenforced(await records.policies.find(actor.tenant_id))
        elevation = None if enabled else await self.elevated.require(context, "turning MFA off")
        async with self.database.transaction(actor.tenant_id) as records:
            if enabled:
                await _demand_active(records, actor.tenant_id, actor.user_id)
            else:
                _demand_unenforced(await records.policies.find_for_update(actor.tenant_id))
            await records.accounts.set_mfa_enabled(actor.tenant_id, actor.user_id, enabled)
            await records.audit.append(
                context.event(EventKind.ACCOUNT_MFA_CHANGED, enabled=enabled, cause="user")
            )
            if elevation is not None:
                await demand_unrevoked(records, elevation)  # with the lock of the audit chain


async def _demand_active(records: Records, tenant_id: TenantId, user_id: UserId) -> None:
    if await records.authenticators.find_for_update(tenant_id, user_id) is None:
        raise EnrollmentStateError(
            EnrollmentFault.NO_AUTHENTICATOR,
            "turning MFA on needs an authenticator: enrol one with BeginEnrollment, which turns"
            " MFA on when it is completed",
        )


def _demand_unenforced(policy: Policy | None) -> None:
    if policy is not None and policy.enabled:
        raise MfaEnforcedError("the tenant's policy is enabled: MFA stays on")


async def append_and_turn_account_mfa(
    records: Records, context: EventContext, cause: Event, user_id: UserId, *, enabled: bool
) -> None:
    """Append an event, and set the account's toggle, in the same transaction.

    A toggle that changes gives a second event, which names the kind of the first. Call this
    function last: it locks the audit chain.
    """
    tenant_id = context.tenant_id
    changes = await records.accounts.mfa_enabled_for_update(tenant_id, user_id) != enabled
    # Also without a change: the row shows later that the user once had an authenticator, and so has
    # no time to enrol. Before any event: every transaction locks the audit chain last.
    await records.accounts.set_mfa_enabled(tenant_id, user_id, enabled)
    await records.audit.append(cause)
    if changes:
        await records.audit.append(
            account_mfa_changed(context, user_id, enabled=enabled, cause=cause.kind)
        )


def account_mfa_changed(
    context: EventContext, user_id: UserId, *, enabled: bool, cause: EventKind
) -> Event:
    """The event of a toggle that changed because of another event."""
    return context.event(EventKind.ACCOUNT_MFA_CHANGED, user_id, enabled=enabled, cause=cause.value)
