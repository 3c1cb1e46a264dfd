"""`CompleteEnrollment`, the third screen: the authenticator becomes active."""

from collections.abc import Mapping
from dataclasses import dataclass

from stepup.domain.audit import EventKind, Json
from stepup.domain.authenticator import Authenticator
from stepup.domain.elevation import Elevation
from stepup.domain.enrollment import PendingEnrollment
from stepup.domain.errors import EnrollmentFault, EnrollmentStateError, StoreUnavailableError
from stepup.service.calls.context import Context
from stepup.service.challenges.end import revoke_challenges
from stepup.service.enrollment.account_mfa import append_and_turn_account_mfa
from stepup.service.enrollment.end import end_of
from stepup.service.enrollment.wizard import (
    find_active,
    find_open_for_update,
    is_recent,
    nothing_pending,
)
from stepup.service.ports import Database, Records
from stepup.service.step_up.elevated import Elevated
from stepup.service.step_up.revocation import Revoker
from stepup.service.step_up.verify_otp import elevate


@dataclass(frozen=True, slots=True)
class Completion:
    """The active authenticator, and the elevation that its enrollment gave.

    The elevation is None if Redis could not store it, or if the call was repeated and the session
    is no longer elevated: the authenticator is active nevertheless, and its next code elevates.
    """

    authenticator: Authenticator
    elevation: Elevation | None


@dataclass(frozen=True, slots=True)
class CompleteEnrollment:
    """Activates a confirmed enrollment, and ends the one that it replaces."""

    database: Database
    elevated: Elevated
    revoker: Revoker

    async def __call__(self, context: Context) -> Completion:
        """Activate the session's confirmed enrollment, and turn the account's MFA on.

        A repeated call, within ten minutes, changes nothing and answers with the current state: the
        first answer may have been lost.

        Raises:
            EnrollmentStateError: no wizard is open or confirmed, or another authenticator became
                active since the wizard was opened.
            StoreUnavailableError: nothing has changed.
        """
        actor, now = context.actor, context.now
        async with self.database.transaction(actor.tenant_id) as records:
            # The authenticator first: every call that ends one takes its locks in this order.
            replaced = await records.authenticators.find_for_update(actor.tenant_id, actor.user_id)
            pending = await find_open_for_update(records, context)
            authenticator = (
                await self._activate(records, context, pending, replaced) if pending else None
            )
        if authenticator is None:
            return await self._answer_again(context)
        if replaced is not None:
            await self.revoker.put_into_effect(end_of(replaced), now)
        elevation = elevate(context, authenticator.enrollment_id)
        try:
            await self.elevated.elevations.replace(elevation)
        except StoreUnavailableError:
            return Completion(authenticator, None)
        return Completion(authenticator, elevation)

    async def _activate(
        self,
        records: Records,
        context: Context,
        pending: PendingEnrollment,
        replaced: Authenticator | None,
    ) -> Authenticator:
        actor, now = context.actor, context.now
        authenticator = pending.completed(replaced, now)
        reset_code = await records.pending.reset_code(pending)
        if reset_code is None:
            raise EnrollmentStateError(
                EnrollmentFault.NOT_CONFIRMED,
                "the enrollment has no reset code: call ConfirmEnrollment with a new code",
            )
        challenges: Mapping[str, Json] = {}
        if replaced is not None:
            challenges = await revoke_challenges(records, actor.tenant_id, actor.user_id, now)
            await records.authenticators.remove(replaced)
            await records.changes.announce(end_of(replaced), now)
        await records.authenticators.add(authenticator)
        await records.reset_codes.add(reset_code)
        # The wizards of other sessions would replace an authenticator that has ended.
        await records.pending.remove(actor.tenant_id, actor.user_id)
        await records.asked.remove(actor.tenant_id, actor.user_id)
        completed = context.event(
            EventKind.ENROLLMENT_COMPLETED,
            actor.user_id,
            enrollment_id=authenticator.enrollment_id,
            replaced=pending.replaces,
            by_reset_code=pending.by_reset_code,
            **challenges,
        )
        await append_and_turn_account_mfa(records, context, completed, actor.user_id, enabled=True)
        return authenticator

    async def _answer_again(self, context: Context) -> Completion:
        """Answer with the current state, if this session has completed its wizard."""
        active = await find_active(self.database, context)
        if (
            active is None
            or active.enrolled_session != context.actor.session_hash
            or not is_recent(active, context)
        ):
            raise nothing_pending(context, active)
        try:
            elevation = await self.elevated.find_live(context)
        except StoreUnavailableError:
            elevation = None
        if elevation is not None and elevation.enrollment_id != active.enrollment_id:
            elevation = None
        return Completion(active, elevation)
