"""`IssueResetCode`: a new reset code for the authenticator in force (S8)."""

from dataclasses import dataclass, replace

from stepup.domain.audit import EventKind
from stepup.domain.errors import ElevationRequiredError, EnrollmentFault, EnrollmentStateError
from stepup.domain.reset_code import ResetCode
from stepup.service.calls.context import Context
from stepup.service.enrollment.wizard import find_active
from stepup.service.ports import Database, Keys
from stepup.service.step_up.elevated import Elevated, demand_unrevoked


@dataclass(frozen=True, slots=True)
class IssueResetCode:
    """Replaces the user's reset code; the first one of an imported authenticator replaces none."""

    database: Database
    elevated: Elevated
    keys: Keys

    async def __call__(self, context: Context) -> ResetCode:
        """Issue a reset code; the one before is no longer valid.

        Sessions that wait after wrong reset codes still wait: a new code gives no session new
        guesses.

        Raises:
            EnrollmentStateError: the user has no authenticator.
            ElevationRequiredError: the authenticator in force has not elevated the session.
            StoreUnavailableError: the reset code before is still valid, if there was one.
        """
        actor = context.actor
        if await find_active(self.database, context) is None:
            raise _without_authenticator()
        elevation = await self.elevated.require(context, "issuing a reset code")
        async with self.database.transaction(actor.tenant_id) as records:
            active = await records.authenticators.find_for_update(actor.tenant_id, actor.user_id)
            if active is None:
                raise _without_authenticator()
            if active.enrollment_id != elevation.enrollment_id:
                raise ElevationRequiredError("the authenticator in force has changed: give a code")
            await demand_unrevoked(records, elevation)
            code = ResetCode.generate()
            record = self.keys.record_reset_code(
                code, active.tenant_id, active.user_id, active.enrollment_id
            )
            before = await records.reset_codes.find_for_update(actor.tenant_id, actor.user_id)
            if before is not None:
                record = replace(record, sessions=before.sessions)
            await records.reset_codes.replace(record)
            await records.audit.append(
                context.event(
                    EventKind.RESET_CODE_ISSUED,
                    enrollment_id=active.enrollment_id,
                    replaced=before is not None,
                )
            )
        return code


def _without_authenticator() -> EnrollmentStateError:
    return EnrollmentStateError(
        EnrollmentFault.NO_AUTHENTICATOR,
        "the user has no authenticator that a reset code could reset: BeginEnrollment enrols one",
    )
