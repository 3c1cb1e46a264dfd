"""`CreateChallenge`: ask a person to approve named actions."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from stepup.domain.audit import Event, EventKind, written
from stepup.domain.challenge import (
    MAX_NEW_OF_USER,
    MAX_PENDING_OF_CALLER,
    MAX_PENDING_OF_USER,
    Challenge,
    Item,
    ItemLabel,
    ItemTarget,
    Message,
)
from stepup.domain.decision import Decision
from stepup.domain.errors import ChallengeLimitError, InvalidFieldError
from stepup.domain.operations import Operation
from stepup.domain.receipts import REPEATABLE
from stepup.domain.values import value
from stepup.service.calls.context import Context
from stepup.service.challenges.read import View, view_of
from stepup.service.challenges.tallies import count_challenge, count_limit
from stepup.service.policy.snapshots import Snapshots
from stepup.service.ports import Creation, Database, Records
from stepup.service.step_up.elevated import Elevated
from stepup.service.step_up.facts import ActorFacts
from stepup.system.random_ids import random_id

_WINDOW: Final = timedelta(minutes=1)
"""The time in which a user may get `MAX_NEW_OF_USER` challenges."""


@value
class NewItem:
    """An action to approve, as the caller names it."""

    operation: Operation
    target: ItemTarget
    label: ItemLabel


@value
class NewChallenge:
    """What a caller asks a person to approve.

    The person has `expires_in` to answer, and the items are allowed for `valid_for` after that.
    """

    items: tuple[NewItem, ...]
    message: Message
    expires_in: timedelta
    valid_for: timedelta
    request_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class CreateChallenge:
    """Creates challenges, within the limits of users and callers."""

    snapshots: Snapshots
    elevated: Elevated
    database: Database

    async def __call__(self, context: Context, new: NewChallenge, requested_by: str) -> View:
        """Create a challenge; the same request, sent again within a minute, gets the first one.

        Args:
            context: the call.
            new: what the person shall approve.
            requested_by: what people call the caller.

        Raises:
            InvalidFieldError: another request has used the `request_id` within the last minute.
            ChallengeLimitError: too many challenges are pending, or were created in this minute.
            StoreUnavailableError: no challenge was created.
        """
        needed = await self._needed(context, new.items)
        actor, now = context.actor, context.now
        challenge = Challenge(
            challenge_id=random_id(),
            tenant_id=actor.tenant_id,
            user_id=actor.user_id,
            session_hash=actor.session_hash,
            caller=context.caller,
            requested_by=requested_by,
            message=new.message,
            items=tuple(
                Item(item.operation.id, item.target, item.label, is_needed)
                for item, is_needed in zip(new.items, needed, strict=True)
            ),
            created_at=now,
            expires_at=now + new.expires_in,
            valid_for=new.valid_for,
            request_id=new.request_id,
        )
        async with self.database.transaction(actor.tenant_id) as records:
            # Requests for one user wait here for each other and for revocations (S10). So a resend
            # finds the challenge of the first request, and the limits of the user are exact.
            await records.authenticators.find_for_update(actor.tenant_id, actor.user_id)
            recent = await records.challenges.created_since(
                actor.tenant_id, actor.user_id, now - max(REPEATABLE, _WINDOW)
            )
            first = await _find_first(records, challenge, recent)
            if first is None:
                await _demand_room_for_user(records, challenge, recent)
                # The event locks the chain of the tenant, so the limit of the caller is exact.
                await records.audit.append(_created(context, challenge))
                await _demand_room_for_caller(records, challenge)
                await records.challenges.add(challenge)
        if first is None:
            count_challenge(challenge)
        return view_of(first or challenge, context, now)

    async def _needed(self, context: Context, items: Sequence[NewItem]) -> list[bool]:
        """Whether each action needs a code now. This uses up and records nothing."""
        policy = await self.snapshots.policy(context.actor.tenant_id)
        facts = ActorFacts(self.elevated, self.database, context)
        verdicts = [await facts.decide_without_use(item.operation, policy) for item in items]
        return [verdict.decision is not Decision.ALLOWED for verdict in verdicts]


async def _find_first(
    records: Records, challenge: Challenge, recent: Sequence[Creation]
) -> Challenge | None:
    """The challenge that an earlier call with the same request created; None without such a call.

    Raises:
        InvalidFieldError: another request has used the `request_id`.
    """
    if challenge.request_id is None:
        return None
    for earlier in recent:
        if earlier.request_id == challenge.request_id:
            first = await records.challenges.find(challenge.tenant_id, earlier.challenge_id)
            if first is None or _terms_of(first) != _terms_of(challenge):
                raise InvalidFieldError("request_id", "was used with another request")
            return first
    return None


def _terms_of(challenge: Challenge) -> tuple[object, ...]:
    """The fields in which a resend must equal the first request."""
    return (
        challenge.caller,
        challenge.session_hash,
        [(item.operation, item.target, item.label) for item in challenge.items],
        challenge.message,
        challenge.expires_at - challenge.created_at,
        challenge.valid_for,
    )


async def _demand_room_for_user(
    records: Records, challenge: Challenge, recent: Sequence[Creation]
) -> None:
    now = challenge.created_at
    if len(recent) >= MAX_NEW_OF_USER:
        count_limit("new_of_user")
        raise ChallengeLimitError(
            f"a user gets at most {MAX_NEW_OF_USER} challenges a minute",
            recent[-MAX_NEW_OF_USER].created_at + _WINDOW - now,
        )
    pending = await records.challenges.count_pending(
        challenge.tenant_id, now, user_id=challenge.user_id
    )
    if pending >= MAX_PENDING_OF_USER:
        count_limit("open_of_user")
        raise ChallengeLimitError(
            f"{MAX_PENDING_OF_USER} challenges of the user are pending: one of them must end first"
        )


async def _demand_room_for_caller(records: Records, challenge: Challenge) -> None:
    pending = await records.challenges.count_pending(
        challenge.tenant_id, challenge.created_at, caller=challenge.caller
    )
    if pending >= MAX_PENDING_OF_CALLER:
        count_limit("open_of_caller")
        raise ChallengeLimitError(
            f"{MAX_PENDING_OF_CALLER} challenges of the caller are pending in the tenant: one of"
            " them must end first"
        )


def _created(context: Context, challenge: Challenge) -> Event:
    """The event of a new challenge. Everything that the person sees is in it, and no secret."""
    return context.event(
        EventKind.CHALLENGE_CREATED,
        challenge_id=str(challenge.challenge_id),
        requested_by=challenge.requested_by,
        message=challenge.message,
        items=[
            {"operation": item.operation, "target": item.target, "label": item.label}
            for item in challenge.items
        ],
        expires_at=written(challenge.expires_at),
    )
