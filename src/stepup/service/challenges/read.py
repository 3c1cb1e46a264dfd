"""`GetChallenge` and `ListChallenges`, and who may read a challenge."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from stepup.domain.actor import UserId
from stepup.domain.challenge import Challenge, ChallengeState
from stepup.domain.errors import ChallengeStateError
from stepup.domain.values import value
from stepup.service.calls.context import AnyContext, Context
from stepup.service.calls.limits import first_that_fit
from stepup.service.people.operator_reads import record_operator_read
from stepup.service.ports import Database

_LIST_BYTES: Final = 2_000_000
"""How much text of callers a list has at most, except for its first challenge."""


@value
class View:
    """A challenge, as a caller sees it at an instant.

    `same_session` says whether the challenge was created for the actor's own session. It is None
    for the creating caller, except within a portal session, and for an operator.
    """

    challenge: Challenge
    state: ChallengeState
    same_session: bool | None


@dataclass(frozen=True, slots=True)
class ReadChallenges:
    """Reads the challenges of an actor, or of the tenant of an operator."""

    database: Database

    async def get(self, context: AnyContext, challenge_id: UUID, *, may_answer: bool) -> View:
        """Return a challenge; the read of an operator is recorded.

        `may_answer` is as for `find_readable`.

        Raises:
            ChallengeStateError: the challenge is unknown, or not for this caller and actor.
            StoreUnavailableError: the challenge cannot be read, or the read cannot be recorded.
        """
        found = await find_readable(self.database, context, challenge_id, may_answer=may_answer)
        await record_operator_read(
            self.database, context, "ChallengeService/GetChallenge", found.user_id
        )
        return view_of(found, context, context.now)

    async def list(self, context: AnyContext, user_id: UserId, limit: int) -> list[View]:
        """Return a user's challenges: pending ones first; of each kind the newest first.

        The user is the actor, whose caller must have permission to answer challenges, or any user
        of an operator's tenant. The read of an operator is recorded. A list of large challenges has
        fewer than `limit`: gRPC clients take 4 MiB.

        Raises:
            StoreUnavailableError: the challenges cannot be read, or the read cannot be recorded.
        """
        tenant_id, now = context.tenant_id, context.now
        async with self.database.snapshot(tenant_id) as records:
            found = await records.challenges.of_user(tenant_id, user_id, now, limit)
        await record_operator_read(
            self.database, context, "ChallengeService/ListChallenges", user_id
        )
        fitting = first_that_fit(found, lambda challenge: challenge.text_bytes, _LIST_BYTES)
        return [view_of(challenge, context, now) for challenge in fitting]


async def find_readable(
    database: Database, context: AnyContext, challenge_id: UUID, *, may_answer: bool
) -> Challenge:
    """Find a challenge that the actor's caller may read; an operator may read all of the tenant.

    Args:
        database: has the challenges.
        context: the call.
        challenge_id: the challenge.
        may_answer: whether the caller may use AnswerChallenge for the actor's tenant. Other callers
            read, for a person, only the challenges that they have created.

    Raises:
        ChallengeStateError: the caller may read no such challenge. All causes have one answer, so
            that nobody can probe ids.
        StoreUnavailableError: the challenge cannot be read.
    """
    async with database.snapshot(context.tenant_id) as records:
        challenge = await records.challenges.find(context.tenant_id, challenge_id)
    found = demand_visible(challenge, context)
    if isinstance(context, Context) and not (may_answer or found.caller == context.caller):
        raise ChallengeStateError
    return found


def demand_visible(found: Challenge | None, context: AnyContext) -> Challenge:
    """Demand a challenge of the actor, or for an operator any challenge of the tenant.

    Args:
        found: the challenge of the tenant, as it is stored; None if there is none.
        context: the call.

    Raises:
        ChallengeStateError: `found` is None, or another user's. One answer for both.
    """
    if isinstance(context, Context):
        return demand_own(found, context)
    if found is None:
        raise ChallengeStateError
    return found


def demand_own(found: Challenge | None, context: Context) -> Challenge:
    """Demand a challenge whose user is the actor: nobody else sees or answers it (S19).

    Raises:
        ChallengeStateError: `found` is None, or another user's. One answer for both.
    """
    if found is None or not found.is_of(context.actor):
        raise ChallengeStateError
    return found


def view_of(challenge: Challenge, context: AnyContext, now: datetime) -> View:
    """Return a challenge as the caller of a call sees it at an instant."""
    same_session = None
    # In a trial, the creating caller and the web process are the same anonymous caller.
    if isinstance(context, Context) and (
        context.portal is not None or challenge.caller != context.caller
    ):
        same_session = challenge.session_hash == context.actor.session_hash
    return View(challenge, challenge.state_at(now), same_session)
