"""Challenges for tests."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from stepup.domain.challenge import (
    LONGEST_OPEN,
    VALID_FOR,
    Challenge,
    ChallengeState,
    Item,
    ItemLabel,
    ItemTarget,
    Message,
)
from stepup.domain.operations import OperationId
from stepup.service.challenges.create import NewChallenge, NewItem
from stepup_tests.people import CALLER

CREATED = datetime(2026, 3, 1, 11, 55, tzinfo=UTC)
ENROLLMENT = "enrollment"


def item(target="host-1", operation="response.run_osquery", **fields):
    """An action to approve."""
    return Item(OperationId(operation), ItemTarget(target), ItemLabel(f"Host {target}"), **fields)


def new_challenge(catalogue, *items, message="Collect the evidence of incident 7", **fields):
    """What a caller asks a person to approve; an item is an operation and a target."""
    return NewChallenge(
        tuple(
            NewItem(catalogue.find(operation), ItemTarget(target), ItemLabel(f"Host {target}"))
            for operation, target in items or [("response.run_osquery", "host-1")]
        ),
        Message(message),
        **{"expires_in": LONGEST_OPEN, "valid_for": VALID_FOR} | fields,
    )


def challenge_of(actor, state=ChallengeState.APPROVED, *targets, at=CREATED, number=3, **fields):
    """A challenge of a person, created at an instant; approved or ended a minute later."""
    pending = Challenge(
        challenge_id=UUID(int=number),
        tenant_id=actor.tenant_id,
        user_id=actor.user_id,
        session_hash=actor.session_hash,
        caller=fields.pop("caller", CALLER),
        requested_by="Response actions",
        message=Message("Collect the evidence of incident 7"),
        items=tuple(item(target) for target in targets or ("host-1",)),
        created_at=at,
        expires_at=at + LONGEST_OPEN,
        **fields,
    )
    answered = at + timedelta(minutes=1)
    if state is ChallengeState.PENDING:
        return pending
    if state is ChallengeState.APPROVED:
        return pending.approved(answered, actor.session_hash, ENROLLMENT)
    return replace(pending, stored_state=state, ended_at=answered)


async def store(worker, challenge):
    """Store a challenge past the service."""
    async with worker.database.transaction() as records:
        await records.challenges.add(challenge)


async def approve(worker, actor, app, *targets, **fields):
    """Store a challenge that the app's code approves now; returns the actor who presents it."""
    now = worker.clock.now()
    number = fields.pop("number", None) or uuid4().int
    pending = challenge_of(actor, ChallengeState.PENDING, *targets, at=now, number=number, **fields)
    await store(worker, pending.approved(now, actor.session_hash, app.enrollment_id))
    return replace(actor, challenge_id=pending.challenge_id)
