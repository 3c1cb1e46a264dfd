"""The ends of an authenticator: by its user, by a reset code, by an administrator or operator."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from stepup.domain.actor import UserId
from stepup.domain.audit import EventKind, Json
from stepup.domain.authenticator import Authenticator
from stepup.domain.changes import EnrollmentEnded
from stepup.domain.errors import (
    ElevationRequiredError,
    EnrollmentFault,
    EnrollmentStateError,
)
from stepup.domain.person import EndedBy, PastAuthenticator
from stepup.domain.reset_code import ResetCode
from stepup.domain.text import StatedReason
from stepup.service.calls.context import AnyContext, Context, EventContext
from stepup.service.calls.tallies import count_reset
from stepup.service.challenges.end import revoke_challenges
from stepup.service.enrollment.account_mfa import append_and_turn_account_mfa
from stepup.service.enrollment.reset_codes import ResetAttempt, try_reset_code
from stepup.service.enrollment.wizard import find_active
from stepup.service.people.authority import authority_of, demand_authority, reason_details
from stepup.service.people.operator_reads import record_operator_read
from stepup.service.people.tallies import count_act
from stepup.service.ports import Database, Keys, Records
from stepup.service.step_up.elevated import Elevated, demand_unrevoked
from stepup.service.step_up.revocation import Revoker

_ADMIN_RESET: Final = "EnrollmentService/AdminResetEnrollment"
_RESETS: Final[Mapping[EndedBy, EventKind]] = {
    EndedBy.ADMINISTRATOR: EventKind.AUTHENTICATOR_RESET_BY_ADMINISTRATOR,
    EndedBy.OPERATOR: EventKind.AUTHENTICATOR_RESET_BY_OPERATOR,
}


@dataclass(frozen=True, slots=True)
class EndEnrollment:
    """Removes authenticators, each with its reset code, elevations, open wizards and challenges.

    The account's MFA is turned off: no app could show a code that it asks for.
    """

    database: Database
    elevated: Elevated
    revoker: Revoker
    keys: Keys

    async def remove(self, context: Context) -> None:
        """`RemoveEnrollment`: the user removes their own authenticator.

        Without one the call changes nothing: the answer to an earlier call may have been lost.

        Raises:
            ElevationRequiredError: the authenticator has not elevated the session.
            StoreUnavailableError: nothing was removed.
        """
        if await find_active(self.database, context) is None:
            return
        elevation = await self.elevated.require(context, "removing the authenticator")
        async with self.database.transaction(context.actor.tenant_id) as records:
            actor = context.actor
            active = await records.authenticators.find_for_update(actor.tenant_id, actor.user_id)
            if active is None:
                return
            if active.enrollment_id != elevation.enrollment_id:
                raise ElevationRequiredError("the authenticator in force has changed: give a code")
            await demand_unrevoked(records, elevation)
            kind = EventKind.AUTHENTICATOR_REMOVED
            ended = await end_authenticator(records, context, active, kind)
        await self.revoker.put_into_effect(ended, context.now)

    async def reset(self, context: Context, code: ResetCode) -> ResetAttempt:
        """`ResetEnrollment`: the reset code removes the authenticator, and itself.

        Raises:
            EnrollmentStateError: no authenticator is active, or it has no reset code.
            StoreUnavailableError: nothing was removed, and no attempt was counted.
        """
        async with self.database.transaction(context.actor.tenant_id) as records:
            active = await _demand_authenticator_for_update(records, context, context.actor.user_id)
            attempt = await try_reset_code(records, self.keys, context, active, code)
            kind = EventKind.AUTHENTICATOR_RESET
            ended = (
                await end_authenticator(records, context, active, kind)
                if attempt.is_accepted
                else None
            )
        count_reset(attempt)
        if ended is not None:
            await self.revoker.put_into_effect(ended, context.now)
        return attempt

    async def admin_reset(
        self, context: AnyContext, user_id: UserId, reason: StatedReason | None
    ) -> None:
        """`AdminResetEnrollment`: an administrator or operator removes a user's authenticator.

        The end is remembered: an operator's end forbids imports for a while. A call of an operator
        for a user without an authenticator is recorded as a read, because its answer says so.

        Raises:
            RoleRequiredError: the actor is a person and not a Master Administrator.
            NotForOneselfError: the user is the actor.
            ElevationRequiredError: the session of the administrator is not elevated.
            EnrollmentStateError: the user has no active authenticator.
            StoreUnavailableError: nothing was removed.
        """
        purpose = "resetting a user's authenticator"
        elevation = await demand_authority(self.elevated, context, user_id, purpose)
        authority = authority_of(context)
        kind = _RESETS[authority]
        past = PastAuthenticator(context.now, authority)
        try:
            async with self.database.transaction(context.tenant_id) as records:
                active = await _demand_authenticator_for_update(records, context, user_id)
                await records.past.remember(context.tenant_id, user_id, past)
                details = reason_details(reason)
                ended = await end_authenticator(records, context, active, kind, **details)
                if elevation is not None:
                    await demand_unrevoked(records, elevation)  # with the lock of the audit chain
        except EnrollmentStateError:
            await record_operator_read(self.database, context, _ADMIN_RESET, user_id)
            raise
        count_act(kind)
        await self.revoker.put_into_effect(ended, context.now)


def end_of(authenticator: Authenticator) -> EnrollmentEnded:
    """The change that announces the end of an authenticator."""
    return EnrollmentEnded(
        authenticator.tenant_id, authenticator.user_id, authenticator.enrollment_id
    )


async def end_authenticator(
    records: Records,
    context: EventContext,
    active: Authenticator,
    kind: EventKind,
    **details: Json,
) -> EnrollmentEnded:
    """Remove an authenticator that the transaction has locked, and what ends with it.

    Call it last: it locks the audit chain.

    Returns:
        The announced change, for `Revoker.put_into_effect` after the commit. Without that call, the
        change feed ends the elevations in every worker within two seconds (S10).
    """
    ended, user_id = end_of(active), active.user_id
    challenges = await revoke_challenges(records, active.tenant_id, user_id, context.now)
    await records.authenticators.remove(active)
    await records.pending.remove(active.tenant_id, user_id)
    await records.changes.announce(ended, context.now)
    event = context.event(
        kind, user_id, enrollment_id=active.enrollment_id, **details, **challenges
    )
    await append_and_turn_account_mfa(records, context, event, user_id, enabled=False)
    return ended


async def _demand_authenticator_for_update(
    records: Records, context: AnyContext, user_id: UserId
) -> Authenticator:
    active = await records.authenticators.find_for_update(context.tenant_id, user_id)
    if active is None:
        raise EnrollmentStateError(
            EnrollmentFault.NO_AUTHENTICATOR,
            "the user has no authenticator to reset: it was removed or reset before, or was never"
            " enrolled; BeginEnrollment enrols a new one",
        )
    return active
