"""The ends of challenges: by the person, the creating caller, an operator, and a revocation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from stepup.domain.actor import SessionHash, TenantId, UserId
from stepup.domain.audit import Event, EventKind, Json
from stepup.domain.challenge import Challenge
from stepup.domain.errors import ChallengeStateError
from stepup.service.calls.context import AnyContext, Context
from stepup.service.challenges.read import View, demand_visible, view_of
from stepup.service.challenges.tallies import count_challenge, count_revoked_challenges
from stepup.service.challenges.waits import Waits
from stepup.service.people.operator_reads import record_operator_read
from stepup.service.people.tallies import count_act
from stepup.service.ports import Database, Records


@dataclass(frozen=True, slots=True)
class EndChallenge:
    """Declines and cancels challenges."""

    database: Database
    waits: Waits

    async def decline(self, context: Context, challenge_id: UUID) -> View:
        """`DeclineChallenge`: the person refuses. A declined challenge does not change.

        Raises:
            ChallengeStateError: the challenge is unknown, belongs to another user, or is not
                pending.
            StoreUnavailableError: the challenge has not changed.
        """

        def decline(found: Challenge) -> tuple[Challenge, Event]:
            event = context.event(EventKind.CHALLENGE_DECLINED, challenge_id=str(challenge_id))
            return found.declined(context.now), event

        return await self._end(context, challenge_id, decline)

    async def cancel(self, context: AnyContext, challenge_id: UUID) -> View:
        """`CancelChallenge`: the creating caller, or an operator, withdraws an open challenge.

        A cancelled challenge does not change.

        Raises:
            ChallengeStateError: the challenge is unknown, belongs to another user or, for a person,
                to another caller, or has ended in another way.
            StoreUnavailableError: the challenge has not changed.
        """

        def cancel(found: Challenge) -> tuple[Challenge, Event]:
            kind = EventKind.CHALLENGE_CANCELLED_BY_OPERATOR
            if isinstance(context, Context):
                if found.caller != context.caller:
                    raise ChallengeStateError
                kind = EventKind.CHALLENGE_CANCELLED
            event = context.event(
                kind,
                found.user_id,
                challenge_id=str(challenge_id),
                was=found.stored_state.value,
            )
            return found.cancelled(context.now), event

        return await self._end(context, challenge_id, cancel)

    async def _end(
        self,
        context: AnyContext,
        challenge_id: UUID,
        end: Callable[[Challenge], tuple[Challenge, Event]],
    ) -> View:
        """End a challenge that the actor sees; `end` returns it after the end, with the event."""
        tenant_id = context.tenant_id
        async with self.database.transaction(tenant_id) as records:
            found = await records.challenges.find_for_update(tenant_id, challenge_id)
            before = demand_visible(found, context)
            after, event = end(before)
            if after is not before:
                await records.challenges.save(after)
                await records.audit.append(event)
        if after is not before:
            count_challenge(after)
            count_act(event.kind)
            self.waits.notify(tenant_id, after.user_id)
        else:
            # The answer shows the challenge all the same.
            await record_operator_read(
                self.database, context, "ChallengeService/CancelChallenge", after.user_id
            )
        return view_of(after, context, context.now)


async def revoke_challenges(
    records: Records,
    tenant_id: TenantId,
    user_id: UserId,
    now: datetime,
    session_hash: SessionHash | None = None,
) -> Mapping[str, Json]:
    """End the challenges that `Challenges.revoke` ends, and count them.

    The transaction must hold the lock of the user's authenticator. The count comes before the
    commit, so challenges of a transaction that fails count, too.

    Returns:
        Details for the event of the revocation: the ids of the challenges, if any has ended.
    """
    ended = await records.challenges.revoke(tenant_id, user_id, now, session_hash)
    count_revoked_challenges(len(ended))
    ids: list[Json] = [str(challenge_id) for challenge_id in sorted(ended)]
    return {"challenges": ids} if ids else {}
