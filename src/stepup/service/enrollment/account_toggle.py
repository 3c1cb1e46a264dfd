"""The account's MFA toggle follows its authenticator: on with enrollment, off with the end."""

from stepup.domain.actor import UserId
from stepup.domain.audit import Event, EventKind
from stepup.service.calls.context import Context
from stepup.service.ports import Records


async def append_and_turn_account_mfa(
    records: Records, context: Context, cause: Event, user_id: UserId, *, enabled: bool
) -> None:
    """Append an event, and set the account's toggle, in the same transaction.

    A toggle that changes gives a second event, which names the kind of the first. Call this
    function last: it locks the audit chain.

    Args:
        records: of the transaction.
        context: the call.
        cause: the event that sets the toggle.
        user_id: the user, in the actor's tenant.
        enabled: the new state.
    """
    tenant_id = context.actor.tenant_id
    changes = await records.accounts.mfa_enabled_for_update(tenant_id, user_id) != enabled
    if changes:
        # Before any event: every transaction locks the audit chain last.
        await records.accounts.set_mfa_enabled(tenant_id, user_id, enabled)
    await records.audit.append(cause)
    if changes:
        await records.audit.append(
            context.event(
                EventKind.ACCOUNT_MFA_CHANGED,
                subject=user_id,
                enabled=enabled,
                cause=cause.kind.value,
            )
        )
