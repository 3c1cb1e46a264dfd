"""The state of a user's enrollment, and the wizard that is open in a session."""

from dataclasses import dataclass
from datetime import UTC, datetime

from stepup.domain.audit import EventKind
from stepup.domain.authenticator import Authenticator
from stepup.domain.enrollment import PENDING_LIFETIME, PendingEnrollment
from stepup.domain.errors import EnrollmentFault, EnrollmentStateError
from stepup.service.calls.context import Context
from stepup.service.ports import Database, Records


async def is_open(records: Records, pending: PendingEnrollment, now: datetime) -> bool:
    """Whether a stored wizard is live, and the elevation that permitted it not revoked (S10)."""
    if not pending.is_live(now):
        return False
    if not pending.rests_on_elevation:
        return True
    revocations = await records.changes.revocations_of(
        pending.tenant_id, pending.user_id, pending.session_hash
    )
    return not pending.is_revoked(revocations)


async def find_open_for_update(records: Records, context: Context) -> PendingEnrollment | None:
    """Lock and return the wizard of the actor's session; None if no wizard is stored.

    Raises:
        EnrollmentStateError: its ten minutes or five tries are over, or its elevation is revoked.
    """
    actor = context.actor
    pending = await records.pending.find_for_update(
        actor.tenant_id, actor.user_id, actor.session_hash
    )
    if pending is not None and not await is_open(records, pending, context.now):
        raise nothing_pending(context, None)
    return pending


def is_recent(active: Authenticator, context: Context) -> bool:
    """Whether a wizard that was open when the authenticator became active would still be open."""
    return context.now < active.activated_at + PENDING_LIFETIME


def nothing_pending(context: Context, active: Authenticator | None) -> EnrollmentStateError:
    """Explain why a step finds no open wizard, by the active authenticator if none is stored."""
    if active is not None and is_recent(active, context):
        if active.enrolled_session == context.actor.session_hash:
            return EnrollmentStateError(
                EnrollmentFault.COMPLETED,
                "the enrollment of this session is completed: its authenticator is in force",
            )
        return EnrollmentStateError(
            EnrollmentFault.OTHER_AUTHENTICATOR,
            "no enrollment is pending in this session: at"
            f" {active.activated_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ} an authenticator of another"
            " session came into force, and ended the enrollments that were pending; to replace it,"
            " call BeginEnrollment",
        )
    return EnrollmentStateError(
        EnrollmentFault.NOTHING_PENDING,
        "no enrollment is pending in this session: it was never begun, it was cancelled or"
        " revoked, or it ended after 10 minutes or 5 wrong codes; call BeginEnrollment",
    )


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
    has_reset_code: bool
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
            has_reset_code = await records.reset_codes.exists(actor.tenant_id, actor.user_id)
            pending = await records.pending.find(actor.tenant_id, actor.user_id, actor.session_hash)
            if pending is not None and not await is_open(records, pending, context.now):
                pending = None
            account_mfa = await records.accounts.mfa_enabled(actor.tenant_id, actor.user_id)
        return Standing(active, has_reset_code, pending, account_mfa)


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
