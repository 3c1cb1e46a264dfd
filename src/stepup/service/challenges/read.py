"""`GetChallenge` and `ListChallenges`, and who may read a challenge."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from stepup.domain.challenge import Challenge, ChallengeState
from stepup.domain.errors import ChallengeStateError
from stepup.domain.values import value
from stepup.service.calls.context import Context
from stepup.service.calls.limits import first_that_fit
from stepup.service.ports import Database

_LIST_BYTES: Final = 2_000_000
"""How much text of callers a list has at most, except for its first challenge."""


@value
class View:
    """A challenge, as a caller sees it at an instant.

    `same_session` says whether the challenge was created for the actor's own session, and is None
    for the creating caller.
    """

    challenge: Challenge
    state: ChallengeState
    same_session: bool | None


@dataclass(frozen=True, slots=True)
class ReadChallenges:
    """Reads the challenges of an actor."""

    database: Database

    async def get(self, context: Context, challenge_id: UUID, *, may_answer: bool) -> View:
        """Return a challenge.

        `may_answer` is as for `find_readable`.

        Raises:
            ChallengeStateError: the challenge is unknown, or not for this caller and actor.
            StoreUnavailableError: the challenge cannot be read.
        """
        challenge = await find_readable(self.database, context, challenge_id, may_answer=may_answer)
        return view_of(challenge, context, context.now)

    async def list(self, context: Context, limit: int) -> list[View]:
        """Return the actor's challenges: pending ones first; of each kind the newest first.

        The caller must have permission to answer challenges. A list of large challenges has fewer
        than `limit`: gRPC clients take 4 MiB.

        Raises:
            StoreUnavailableError: the challenges cannot be read.
        """
        actor, now = context.actor, context.now
        async with self.database.snapshot(actor.tenant_id) as records:
            found = await records.challenges.of_user(actor.tenant_id, actor.user_id, now, limit)
        fitting = first_that_fit(found, lambda challenge: challenge.text_bytes, _LIST_BYTES)
        return [view_of(challenge, context, now) for challenge in fitting]


async def find_readable(
    database: Database, context: Context, challenge_id: UUID, *, may_answer: bool
) -> Challenge:
    """Find a challenge that the actor's caller may read.

    Args:
        database: has the challenges.
        context: the call.
        challenge_id: the challenge.
        may_answer: whether the caller may use AnswerChallenge for the actor's tenant. Others read
            only the challenges that they have created.

    Raises:
        ChallengeStateError: the caller may read no such challenge. All causes have one answer, so
            that nobody can probe ids.
        StoreUnavailableError: the challenge cannot be read.
    """
    tenant_id = context.actor.tenant_id
    async with database.snapshot(tenant_id) as records:
        found = demand_own(await records.challenges.find(tenant_id, challenge_id), context)
    if not (may_answer or found.caller == context.caller):
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


def view_of(challenge: Challenge, context: Context, now: datetime) -> View:
    """Return a challenge as the caller of a call sees it at an instant."""
    is_creator = challenge.caller == context.caller
    return View(
        challenge,
        challenge.state_at(now),
        None if is_creator else challenge.session_hash == context.actor.session_hash,
    )
