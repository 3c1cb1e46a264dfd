"""`UnlockUser`: ends the lock of a user's codes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from stepup.domain.actor import UserId
from stepup.domain.audit import EventKind, written
from stepup.domain.errors import (
    EnrollmentFault,
    EnrollmentStateError,
    UnknownPersonError,
    UnlockLimitError,
)
from stepup.domain.person import EndedBy
from stepup.domain.text import StatedReason
from stepup.service.calls.context import AnyContext
from stepup.service.people.authority import authority_of, demand_authority, reason_details
from stepup.service.people.operator_reads import record_operator_read
from stepup.service.people.tallies import count_act
from stepup.service.ports import Database, Records
from stepup.service.step_up.elevated import Elevated, demand_unrevoked

_METHOD: Final = "PeopleService/UnlockUser"
_KINDS: Final[Mapping[EndedBy, EventKind]] = {
    EndedBy.ADMINISTRATOR: EventKind.USER_UNLOCKED,
    EndedBy.OPERATOR: EventKind.USER_UNLOCKED_BY_OPERATOR,
}


@dataclass(frozen=True, slots=True)
class UnlockUser:
    """Ends timed locks, at most three a day per user."""

    database: Database
    elevated: Elevated

    async def __call__(
        self, context: AnyContext, user_id: UserId, reason: StatedReason | None
    ) -> int:
        """End the user's lock; return how often the user may be unlocked within the next 24 hours.

        For a user who is not locked the call changes nothing and does not count. A call of an
        operator that ends no lock is recorded as a read, because its answer shows the user's state.

        Raises:
            RoleRequiredError: the actor is a person and not a Master Administrator.
            NotForOneselfError: the user is the actor.
            ElevationRequiredError: the session of the administrator is not elevated.
            UnknownPersonError: the service knows nobody by this id.
            EnrollmentStateError: the user has no authenticator, or is suspended.
            UnlockLimitError: the user was unlocked three times within 24 hours.
            StoreUnavailableError: the lock has not ended, or the read cannot be recorded.
        """
        try:
            is_unlocked, remaining = await self._unlock(context, user_id, reason)
        except (UnknownPersonError, EnrollmentStateError, UnlockLimitError):
            await record_operator_read(self.database, context, _METHOD, user_id)
            raise
        if is_unlocked:
            count_act(_KINDS[authority_of(context)])
        else:
            await record_operator_read(self.database, context, _METHOD, user_id)
        return remaining

    async def _unlock(
        self, context: AnyContext, user_id: UserId, reason: StatedReason | None
    ) -> tuple[bool, int]:
        """Whether a lock has ended, and how often the user may be unlocked within 24 hours."""
        elevation = await demand_authority(self.elevated, context, user_id, "unlocking a user")
        kind = _KINDS[authority_of(context)]
        async with self.database.transaction(context.tenant_id) as records:
            active = await records.authenticators.find_for_update(context.tenant_id, user_id)
            if active is None:
                raise await _refusal(records, context, user_id)
            unlocked, locked_until = active.unlocked(context.now), active.throttle.locked_until
            if unlocked is active or locked_until is None:
                return False, active.unlocks_remaining(context.now)
            await records.authenticators.save(unlocked)
            remaining = unlocked.unlocks_remaining(context.now)
            await records.audit.append(
                context.event(
                    kind,
                    user_id,
                    enrollment_id=active.enrollment_id,
                    locked_until=written(locked_until),
                    unlocks_remaining=remaining,
                    **reason_details(reason),
                )
            )
            if elevation is not None:
                await demand_unrevoked(records, elevation)  # with the lock of the audit chain
        return True, remaining


async def _refusal(
    records: Records, context: AnyContext, user_id: UserId
) -> UnknownPersonError | EnrollmentStateError:
    if await records.people.find(context.tenant_id, user_id, context.now) is None:
        return UnknownPersonError("the service knows nobody by this user_id")
    return EnrollmentStateError(
        EnrollmentFault.NO_AUTHENTICATOR, "the user has no authenticator, and so no lock"
    )
