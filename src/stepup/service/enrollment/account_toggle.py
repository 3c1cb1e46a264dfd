"""The account's MFA toggle follows its authenticator: on with enrollment, off with the end."""

from stepup.domain.actor import UserId
from stepup.domain.audit import Event, EventKind
from stepup.service.calls.context import Context
from stepup.service.ports import Records


async def append_and_turn_account_mfa(
    records: Records, context: Context, cause: Event, user_id: UserId, *, enabled: bool
) -> None:
    """Append an event and turn the account's toggle by it, in the same transaction.

    Where the toggle stands otherwise, that is a second event, which names the kind of the first.
    Call it last: it takes the lock of the audit chain.

    Args:
        records: of the transaction.
        context: the call.
        cause: what turns the toggle.
        user_id: whose toggle it is, in the actor's tenant.
        enabled: the new position.
    """
    tenant_id = context.actor.tenant_id
    changes = await records.accounts.mfa_enabled_for_update(tenant_id, user_id) != enabled
    if changes:
        # Before any event: everything takes the lock of the audit chain last.
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
