"""The ends of challenges: by the person, by the creating caller, and by a revocation."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from stepup.domain.actor import SessionHash, TenantId, UserId
from stepup.domain.audit import EventKind, Json
from stepup.domain.errors import ChallengeStateError
from stepup.service.calls.context import Context
from stepup.service.challenges.read import View, demand_own, view_of
from stepup.service.challenges.tallies import count_challenge, count_revoked_challenges
from stepup.service.challenges.waits import Waits
from stepup.service.ports import Database, Records


@dataclass(frozen=True, slots=True)
class EndChallenge:
    """Declines and cancels challenges."""

    database: Database
    waits: Waits

    async def decline(self, context: Context, challenge_id: UUID) -> View:
        """`DeclineChallenge`: the person refuses. A challenge that was declined before stays so.

        Raises:
            ChallengeStateError: the challenge is unknown, another user's, or not pending.
            StoreUnavailableError: the challenge is as it was.
        """
        tenant_id = context.actor.tenant_id
        async with self.database.transaction(tenant_id) as records:
            found = await records.challenges.find_for_update(tenant_id, challenge_id)
            challenge = demand_own(found, context)
            declined = challenge.declined(context.now)
            if declined is not challenge:
                event = context.event(EventKind.CHALLENGE_DECLINED, challenge_id=str(challenge_id))
                await records.challenges.save(declined)
                await records.audit.append(event)
        if declined is not challenge:
            count_challenge(declined)
            self.waits.notify(tenant_id, declined.user_id)
        return view_of(declined, context, context.now)

    async def cancel(self, context: Context, challenge_id: UUID) -> View:
        """`CancelChallenge`: the creating caller withdraws the challenge, also an approved one.

        A challenge that was cancelled before stays so.

        Raises:
            ChallengeStateError: the challenge is unknown, another user's or another caller's, or
                has ended otherwise.
            StoreUnavailableError: the challenge is as it was.
        """
        tenant_id = context.actor.tenant_id
        async with self.database.transaction(tenant_id) as records:
            found = await records.challenges.find_for_update(tenant_id, challenge_id)
            if found is None or not found.is_of(context.actor) or found.caller != context.caller:
                raise ChallengeStateError
            cancelled = found.cancelled(context.now)
            if cancelled is not found:
                event = context.event(
                    EventKind.CHALLENGE_CANCELLED,
                    challenge_id=str(challenge_id),
                    was=found.stored_state.value,
                )
                await records.challenges.save(cancelled)
                await records.audit.append(event)
        if cancelled is not found:
            count_challenge(cancelled)
            self.waits.notify(tenant_id, cancelled.user_id)
        return view_of(cancelled, context, context.now)


async def revoke_challenges(
    records: Records,
    tenant_id: TenantId,
    user_id: UserId,
    now: datetime,
    session_hash: SessionHash | None = None,
) -> Mapping[str, Json]:
    """End what `Challenges.revoke` ends; return the details for the event of the revocation.

    The transaction must hold the lock of the user's authenticator. The challenges are counted
    before it commits, so that those of a transaction that fails are counted, too.

    Returns:
        The ids of the challenges that have ended; nothing if none has.
    """
    ended = await records.challenges.revoke(tenant_id, user_id, now, session_hash)
    count_revoked_challenges(len(ended))
    ids: list[Json] = [str(challenge_id) for challenge_id in sorted(ended)]
    return {"challenges": ids} if ids else {}
