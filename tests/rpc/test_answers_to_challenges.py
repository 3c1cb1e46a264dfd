"""`AnswerChallenge` on the wire."""

from datetime import timedelta

import pytest
from grpc import StatusCode
from stepup_tests.people import person
from stepup_tests.wire import on_wire, refusal_of
from stepup_tests.worker import OSQUERY

from stepup.v1 import challenge_service_pb2 as pb
from stepup.v1 import step_up_service_pb2 as step_up

ALICE, PHONE, BOB = person(), person(session="phone"), person("bob")
REQUEST_ID = "6f2c1f3e-abcd-4000-8000-000000000001"


@pytest.fixture
async def app(worker):
    await worker.select(OSQUERY)
    return await worker.enrol(ALICE)


@pytest.fixture
async def challenge_id(worker, app):  # noqa: ARG001  # the authenticator comes first
    return str(await worker.challenge(ALICE))


def answering(challenge_id, code, actor=PHONE, **fields):
    return pb.AnswerChallengeRequest(
        actor=on_wire(actor), challenge_id=challenge_id, code=code, **fields
    )


async def read(client, challenge_id):
    request = pb.GetChallengeRequest(actor=on_wire(PHONE), challenge_id=challenge_id)
    return (await client.challenge.GetChallenge(request)).challenge


async def test_a_right_code_is_answered_with_the_approved_challenge(
    client, clock, app, challenge_id
):
    answer = await client.challenge.AnswerChallenge(answering(challenge_id, app.code(clock.now())))
    assert answer == pb.AnswerChallengeResponse(
        outcome=step_up.OUTCOME_VERIFIED,
        challenge=await read(client, challenge_id),
        attempts_remaining=5,
    )
    assert answer.challenge.state == pb.CHALLENGE_STATE_APPROVED
    assert answer.challenge.usable_until.seconds == clock.now().timestamp() + 15 * 60


async def test_a_wrong_code_is_answered_with_the_pending_challenge(
    client, clock, app, challenge_id
):
    wrong = answering(challenge_id, app.wrong_code(clock.now()))
    pending = await read(client, challenge_id)
    answers = [await client.challenge.AnswerChallenge(wrong) for _ in range(6)]
    assert pending.state == pb.CHALLENGE_STATE_PENDING
    assert answers[0] == pb.AnswerChallengeResponse(
        outcome=step_up.OUTCOME_REJECTED, challenge=pending, attempts_remaining=4
    )
    assert answers[5] == pb.AnswerChallengeResponse(
        outcome=step_up.OUTCOME_THROTTLED, challenge=pending, retry_after=timedelta(minutes=15)
    )


async def test_s22_the_code_of_an_elevation_is_answered_with_the_time_until_the_next_one(
    client, worker, clock, app, challenge_id
):
    await worker.elevate(PHONE, app)
    repeated = answering(challenge_id, app.code(clock.now()))
    answer = await client.challenge.AnswerChallenge(repeated)
    assert (answer.outcome, answer.attempts_remaining) == (step_up.OUTCOME_REJECTED, 5)
    assert answer.next_code_after.seconds == 25


async def test_a_second_answer_says_approved_and_the_same_request_gets_its_outcome(
    client, clock, app, challenge_id
):
    request = answering(challenge_id, app.code(clock.now()), request_id=REQUEST_ID)
    first = await client.challenge.AnswerChallenge(request)
    assert await client.challenge.AnswerChallenge(request) == first
    request.ClearField("request_id")
    refusal = await refusal_of(client.challenge.AnswerChallenge(request))
    assert (refusal.code, refusal.reason) == (StatusCode.FAILED_PRECONDITION, "CHALLENGE_STATE")
    assert refusal.details["ErrorInfo"].metadata["state"] == "APPROVED"


async def test_s19_another_user_gets_one_answer_for_every_challenge(
    client, worker, clock, challenge_id
):
    bobs = await worker.enrol(BOB)
    code = bobs.code(clock.now())
    for asked in (challenge_id, REQUEST_ID):
        refusal = await refusal_of(
            client.challenge.AnswerChallenge(answering(asked, code, actor=BOB))
        )
        assert refusal.reason == "CHALLENGE_STATE"
        assert "state" not in refusal.details["ErrorInfo"].metadata
    # The code is not used up.
    await worker.elevate(BOB, bobs)
