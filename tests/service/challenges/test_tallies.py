"""What is counted of challenges; no count names a person or a tenant (S11, S19)."""

from datetime import timedelta

import pytest
from stepup_tests.challenges import challenge_of
from stepup_tests.metrics import metric
from stepup_tests.people import person

from stepup.domain.challenge import ChallengeState
from stepup.domain.errors import (
    ChallengeLimitError,
    ChallengeStateError,
    StoreUnavailableError,
)
from stepup.service.challenges.tallies import count_challenge
from stepup.system.random_ids import random_id

ALICE, BOB = person("alice"), person("bob")
EVENTS = ("created", "approved", "declined", "cancelled", "expired", "revoked")


@pytest.fixture
def counted():
    """How often each event was counted since the beginning of the test."""
    before = {event: metric("stepup_challenges_total", event=event) for event in EVENTS}

    def since():
        found = {
            event: metric("stepup_challenges_total", event=event) - count
            for event, count in before.items()
        }
        return {event: count for event, count in found.items() if count}

    return since


async def test_each_creation_and_end_is_counted_once(worker, counted):
    await worker.decline(ALICE, await worker.challenge(ALICE))
    cancelled = await worker.challenge(ALICE)
    await worker.cancel_challenge(ALICE, cancelled)
    await worker.cancel_challenge(ALICE, cancelled)
    await worker.challenge(ALICE)
    await worker.challenge(ALICE)
    await worker.revoke(ALICE)
    assert counted() == {"created": 4, "declined": 1, "cancelled": 1, "revoked": 2}


async def test_a_declined_challenge_is_not_counted_again(worker, counted):
    declined = await worker.challenge(ALICE)
    await worker.decline(ALICE, declined)
    await worker.decline(ALICE, declined)
    assert counted() == {"created": 1, "declined": 1}


async def test_an_approval_is_counted_once_when_it_is_committed(world, worker, clock, counted):
    app = await worker.enrol(ALICE)
    challenge_id = await worker.challenge(ALICE)
    request_id, code = random_id(), app.code(clock.now())
    world.database.commits = False
    with pytest.raises(StoreUnavailableError):
        await worker.answer(ALICE, challenge_id, code, request_id)
    world.database.commits = True
    await worker.answer(ALICE, challenge_id, app.wrong_code(clock.now()))
    for _ in range(2):
        await worker.answer(ALICE, challenge_id, code, request_id)
    assert counted() == {"created": 1, "approved": 1}


async def test_an_end_that_was_refused_is_not_counted(worker, counted):
    with pytest.raises(ChallengeStateError):
        await worker.decline(BOB, await worker.challenge(ALICE))
    assert counted() == {"created": 1}


async def test_a_challenge_that_nobody_answers_is_counted_by_one_worker(world, worker, counted):
    await worker.challenge(ALICE)
    await worker.advance(minutes=10)
    await worker.keep_house()
    await (await world.worker()).keep_house()
    assert counted() == {"created": 1, "expired": 1}


async def test_open_challenges_of_all_tenants_are_shown(worker):
    for tenant in ("acme", "umbrella"):
        await worker.challenge(person("alice", tenant=tenant))
    await worker.decline(ALICE, await worker.challenge(ALICE))
    await worker.keep_house()
    assert metric("stepup_challenges_open") == 2
    await worker.advance(minutes=10)
    await worker.keep_house()
    assert metric("stepup_challenges_open") == 0


async def test_a_challenge_over_a_limit_is_counted_as_that(worker, counted):
    refused = metric("stepup_challenge_limits_reached_total", limit="new_of_user")
    for _ in range(10):
        await worker.challenge(ALICE)
    with pytest.raises(ChallengeLimitError):
        await worker.challenge(ALICE)
    assert metric("stepup_challenge_limits_reached_total", limit="new_of_user") == refused + 1
    assert counted() == {"created": 10}


async def test_open_challenges_over_the_limit_of_a_user_are_counted_as_that(worker):
    refused = metric("stepup_challenge_limits_reached_total", limit="open_of_user")
    for _ in range(2):
        for _ in range(10):
            await worker.challenge(ALICE)
        await worker.advance(minutes=1)
    with pytest.raises(ChallengeLimitError):
        await worker.challenge(ALICE)
    assert metric("stepup_challenge_limits_reached_total", limit="open_of_user") == refused + 1


@pytest.mark.parametrize(
    ("state", "answers"),
    [
        (ChallengeState.APPROVED, 1),
        (ChallengeState.DECLINED, 1),
        (ChallengeState.PENDING, 0),
        (ChallengeState.EXPIRED, 0),
    ],
)
def test_the_time_to_answer_is_that_of_answers_alone(state, answers):
    sum_before = metric("stepup_challenge_answer_seconds_sum")
    count_before = metric("stepup_challenge_answer_seconds_count")
    count_challenge(challenge_of(ALICE, state))
    assert metric("stepup_challenge_answer_seconds_count") == count_before + answers
    assert metric("stepup_challenge_answer_seconds_sum") == sum_before + 60 * answers


def test_an_approval_that_is_revoked_or_cancelled_is_no_second_answer():
    approved = challenge_of(ALICE)
    before = metric("stepup_challenge_answer_seconds_count")
    count_challenge(approved.cancelled(approved.approval.verified_at + timedelta(minutes=1)))
    assert metric("stepup_challenge_answer_seconds_count") == before
