"""`CompleteEnrollment`, the third screen: the authenticator comes into force."""

from dataclasses import dataclass

from stepup.domain.audit import EventKind
from stepup.domain.authenticator import Authenticator
from stepup.domain.changes import EnrollmentEnded
from stepup.domain.elevation import Elevation
from stepup.domain.errors import EnrollmentStateError, StoreUnavailableError
from stepup.service.confirm_enrollment import require_pending
from stepup.service.context import Context
from stepup.service.ports import Database, Elevations
from stepup.service.revoker import Revoker
from stepup.service.verify_otp import elevate


@dataclass(frozen=True, slots=True)
class Completion:
    """The active authenticator, and the elevation that its enrollment earned.

    The elevation is None where Redis could not take it: the authenticator is active all the same,
    and a code elevates.
    """

    authenticator: Authenticator
    elevation: Elevation | None


@dataclass(frozen=True, slots=True)
class CompleteEnrollment:
    """Activates a confirmed enrollment, and ends the one that it replaces."""

    database: Database
    elevations: Elevations
    revoker: Revoker

    async def __call__(self, context: Context) -> Completion:
        """Activate the session's confirmed enrollment.

        Raises:
            EnrollmentStateError: nothing is pending or confirmed, or another authenticator came
                into force since the wizard was opened.
            StoreUnavailableError: nothing has changed.
        """
        actor, now = context.actor, context.now
        async with self.database.transaction() as records:
            # The authenticator first: everything that ends one takes its locks in this order.
            replaced = await records.authenticators.find(actor.tenant_id, actor.user_id)
            pending = await require_pending(records, context)
            authenticator = pending.completed(replaced.enrollment_id if replaced else None, now)
            reset_code = await records.pending.reset_code(pending)
            if reset_code is None:
                raise EnrollmentStateError("the enrollment has no reset code; begin again")
            if replaced is not None:
                await records.authenticators.remove(replaced)
                ended = EnrollmentEnded(actor.tenant_id, actor.user_id, replaced.enrollment_id)
                await records.changes.announce(ended, now)
            await records.authenticators.add(authenticator)
            await records.reset_codes.add(reset_code)
            # Other sessions' wizards were permitted to replace what is no longer there.
            await records.pending.remove(actor.tenant_id, actor.user_id)
            await records.audit.append(
                context.event(
                    EventKind.ENROLLMENT_COMPLETED,
                    enrollment_id=authenticator.enrollment_id,
                    replaced=pending.replaces,
                    by_reset_code=pending.by_reset_code,
                )
            )
        if replaced is not None:
            await self.revoker.put_into_effect(ended, now)
        elevation = elevate(context, authenticator.enrollment_id)
        try:
            await self.elevations.put(elevation)
        except StoreUnavailableError:
            return Completion(authenticator, None)
        return Completion(authenticator, elevation)
