"""`AnswerChallenge`: what one code does to a challenge, and what it does not."""

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest
from stepup_tests.people import ACME, person
from stepup_tests.worker import OSQUERY, REMOTE_SHELL, details_of

from stepup.domain.audit import EventKind, written
from stepup.domain.challenge import VALID_FOR, Approval, ChallengeState
from stepup.domain.changes import EnrollmentEnded, SessionRevoked, UserRevoked
from stepup.domain.decision import Reason
from stepup.domain.elevation import Outcome, Verification
from stepup.domain.errors import (
    ChallengeStateError,
    InvalidFieldError,
    StoreUnavailableError,
)
from stepup.service.step_up.revocation import Scope

ALICE = person()
PHONE = person(session="phone")
BOB = person("bob")
REQUEST = UUID("6f2c1f3e-0000-4000-8000-000000000001")
UNKNOWN = UUID("6f2c1f3e-0000-4000-8000-000000000002")


@pytest.fixture
async def app(worker):
    await worker.select(OSQUERY)
    return await worker.enrol(ALICE)


@pytest.fixture
async def challenge_id(worker, app):  # noqa: ARG001  # the authenticator comes first
    return await worker.challenge(ALICE, (OSQUERY, "host-1"), (REMOTE_SHELL, "host-2"))


async def state_of(worker, challenge_id, actor=ALICE):
    return (await worker.read(actor, challenge_id)).state


async def test_a_right_code_approves_the_items_for_fifteen_minutes(
    worker, clock, app, challenge_id
):
    answered = await worker.answer(PHONE, challenge_id, app.code(clock.now()))
    now = clock.now()
    assert answered.verification == Verification(Outcome.VERIFIED, attempts_remaining=5)
    assert answered.view.state is ChallengeState.APPROVED
    assert (await worker.read(ALICE, challenge_id)).challenge.approval == Approval(
        now, PHONE.session_hash, app.enrollment_id, now + timedelta(minutes=15)
    )


async def test_an_approval_elevates_no_session(world, worker, clock, app, challenge_id):
    remembered = await world.remembered()
    for actor in (ALICE, PHONE):
        assert (await worker.check(actor)).verdict.reason is Reason.NOT_ELEVATED
    await worker.answer(PHONE, challenge_id, app.code(clock.now()))
    for actor in (ALICE, PHONE):
        assert (await worker.check(actor)).verdict.reason is Reason.NOT_ELEVATED
    assert await world.remembered() == remembered


async def test_s13_an_approval_is_one_event(worker, clock, app, challenge_id):
    before = len(await worker.events())
    await worker.answer(PHONE, challenge_id, app.code(clock.now()), caller="console")
    [event] = (await worker.events())[before:]
    assert (event.kind, event.caller) == (EventKind.CHALLENGE_APPROVED, "console")
    assert event.details == details_of(
        PHONE,
        challenge_id=str(challenge_id),
        enrollment_id=app.enrollment_id,
        step=int(clock.now().timestamp()) // 30,
        items=[
            {"operation": OSQUERY, "target": "host-1"},
            {"operation": REMOTE_SHELL, "target": "host-2"},
        ],
        usable_until=written(clock.now() + VALID_FOR),
    )


async def test_s13_the_events_of_refused_codes_name_the_challenge(worker, app, challenge_id):
    for _ in range(6):
        await worker.answer(ALICE, challenge_id, app.wrong_code(worker.clock.now()))
    events = await worker.events(EventKind.OTP_REJECTED, EventKind.ATTEMPTS_REFUSED)
    assert [event.kind for event in events] == [
        *5 * [EventKind.OTP_REJECTED],
        EventKind.ATTEMPTS_REFUSED,
    ]
    assert {event.details["challenge_id"] for event in events} == {str(challenge_id)}


async def test_s2_a_code_approves_one_challenge(worker, clock, app, challenge_id):
    other = await worker.challenge(ALICE)
    code = app.code(clock.now())
    await worker.answer(ALICE, challenge_id, code)
    answered = await worker.answer(PHONE, other, code)
    assert answered.verification == Verification(Outcome.REJECTED, attempts_remaining=4)
    assert answered.view.state is ChallengeState.PENDING


async def test_s22_the_code_that_elevated_the_session_is_repeated(worker, clock, app, challenge_id):
    code = app.code(clock.now())
    await worker.verify(ALICE, code)
    clock.advance(seconds=5)
    repeated = Verification(
        Outcome.REJECTED, attempts_remaining=5, next_code_after=timedelta(seconds=20)
    )
    for _ in range(2):
        answered = await worker.answer(ALICE, challenge_id, code)
        assert answered.verification == repeated
        assert answered.view.state is ChallengeState.PENDING


async def test_s22_the_code_that_approved_a_challenge_is_repeated(worker, clock, app, challenge_id):
    other = await worker.challenge(ALICE)
    code = app.code(clock.now())
    await worker.answer(ALICE, challenge_id, code)
    clock.advance(seconds=5)
    repeated = Verification(
        Outcome.REJECTED, attempts_remaining=5, next_code_after=timedelta(seconds=20)
    )
    assert await worker.verify(ALICE, code) == repeated
    assert (await worker.answer(ALICE, other, code)).verification == repeated
    assert (await worker.check(ALICE)).verdict.reason is Reason.NOT_ELEVATED


async def test_s22_the_confirming_code_is_repeated_in_the_session_of_the_wizard(worker, clock):
    app = await worker.wizard(ALICE)
    challenge_id = await worker.challenge(ALICE)
    answered = await worker.answer(ALICE, challenge_id, app.code(clock.now()))
    assert answered.verification.attempts_remaining == 5
    assert answered.verification.next_code_after


async def test_s4_wrong_codes_of_challenges_and_of_elevations_count_together(
    worker, clock, app, challenge_id
):
    await worker.fail(ALICE, app, times=4)
    answered = await worker.answer(PHONE, challenge_id, app.wrong_code(clock.now()))
    assert answered.verification == Verification(
        Outcome.REJECTED, retry_after=timedelta(minutes=15)
    )
    right = app.code(clock.now())
    locked = await worker.answer(PHONE, challenge_id, right)
    assert locked.verification.outcome is Outcome.THROTTLED
    assert locked.view.state is ChallengeState.PENDING
    assert (await worker.verify(ALICE, right)).outcome is Outcome.THROTTLED


async def test_s4_a_spent_session_approves_nothing(worker, clock, app):
    for _ in range(2):
        await worker.fail(PHONE, app, times=5)
        await worker.advance(minutes=30)
    challenge_id = await worker.challenge(ALICE)
    answered = await worker.answer(PHONE, challenge_id, app.code(clock.now()))
    assert answered.verification == Verification(Outcome.SESSION_SPENT)
    answered = await worker.answer(ALICE, challenge_id, app.code(clock.now()))
    assert answered.view.state is ChallengeState.APPROVED


async def test_s4_a_suspended_user_approves_nothing(worker, clock, app):
    await worker.suspend(app)
    challenge_id = await worker.challenge(ALICE)
    answered = await worker.answer(ALICE, challenge_id, app.code(clock.now()))
    assert answered.verification.outcome is Outcome.SUSPENDED


async def test_without_an_authenticator_nothing_is_approved(world, worker):
    challenge_id = await worker.challenge(ALICE)
    before = await world.state()
    answered = await worker.answer(ALICE, challenge_id, "123456")
    assert answered.verification == Verification(Outcome.NOT_ENROLLED)
    assert answered.view.state is ChallengeState.PENDING
    assert await world.state() == before


@pytest.mark.parametrize("is_right", [True, False])
async def test_s19_the_challenge_of_another_user_is_unknown_and_no_code_is_looked_at(
    world, worker, clock, challenge_id, is_right
):
    bobs = await worker.enrol(BOB)
    code = (bobs.code if is_right else bobs.wrong_code)(clock.now())
    for asked in (challenge_id, UNKNOWN):
        refused = await world.refuses(worker.answer(BOB, asked, code), ChallengeStateError)
        assert refused.state is None


async def test_s19_nor_is_the_challenge_of_another_tenant_answered(world, worker, clock, app):
    other = await worker.challenge(person(tenant="globex"))
    code = app.code(clock.now())
    refused = await world.refuses(worker.answer(ALICE, other, code), ChallengeStateError)
    assert refused.state is None


async def approve(worker, app, challenge_id):
    await worker.answer(ALICE, challenge_id, app.code(worker.clock.now()))
    await worker.advance(seconds=30)


ENDS = {
    "approved": approve,
    "declined": lambda worker, _, challenge_id: worker.decline(ALICE, challenge_id),
    "cancelled": lambda worker, _, challenge_id: worker.cancel_challenge(ALICE, challenge_id),
    "expired": lambda worker, *_: worker.advance(minutes=10),
    "revoked": lambda worker, *_: worker.revoke(ALICE, Scope.USER),
}


@pytest.mark.parametrize("state", ENDS)
async def test_a_challenge_that_is_not_pending_says_so_and_no_code_is_looked_at(
    world, worker, app, challenge_id, state
):
    await ENDS[state](worker, app, challenge_id)
    for code in (app.code(worker.clock.now()), app.wrong_code(worker.clock.now())):
        refused = await world.refuses(worker.answer(ALICE, challenge_id, code), ChallengeStateError)
        assert refused.state == state


async def test_a_challenge_is_answered_until_the_last_instant(worker, clock, app, challenge_id):
    clock.advance(minutes=10, seconds=-0.001)
    answered = await worker.answer(ALICE, challenge_id, app.code(clock.now()))
    assert answered.view.state is ChallengeState.APPROVED


async def announce(worker, change):
    """Revoke as a server does that knows of no challenges."""
    async with worker.database.transaction(ACME) as records:
        await records.changes.announce(change, worker.clock.now())


@pytest.mark.parametrize(
    "change_at",
    [
        lambda now: UserRevoked(ACME, ALICE.user_id, now),
        lambda now: SessionRevoked(ACME, ALICE.user_id, ALICE.session_hash, now),
        lambda _: EnrollmentEnded(ACME, ALICE.user_id, "another"),
    ],
    ids=["user", "session", "enrollment"],
)
async def test_s10_what_a_server_revoked_that_knows_no_challenges_is_not_approved(
    world, worker, app, challenge_id, change_at
):
    await announce(worker, change_at(worker.clock.now()))
    code = app.code(worker.clock.now())
    refused = await world.refuses(worker.answer(ALICE, challenge_id, code), ChallengeStateError)
    assert refused.state == "revoked"
    await worker.advance(seconds=1)
    later = await worker.challenge(ALICE)
    assert (await worker.answer(ALICE, later, code)).view.state is ChallengeState.APPROVED


@pytest.mark.parametrize("end", ["revoked", "cancelled"])
async def test_s10_a_challenge_that_ends_during_the_call_is_not_approved(
    world, worker, app, challenge_id, end
):
    world.database.before_transaction = lambda: ENDS[end](worker, app, challenge_id)
    with pytest.raises(ChallengeStateError, match=end):
        await worker.answer(ALICE, challenge_id, app.code(worker.clock.now()))
    assert (await worker.verify(ALICE, app.code(worker.clock.now()))).outcome is Outcome.VERIFIED


@pytest.mark.parametrize("fault", ["writes", "audit_trail_takes_events", "commits"])
async def test_s3_there_is_no_approval_without_its_event_and_its_used_up_code(
    world, worker, app, challenge_id, fault
):
    code = app.code(worker.clock.now())
    setattr(world.database, fault, False)
    await world.refuses(worker.answer(ALICE, challenge_id, code))
    setattr(world.database, fault, True)
    assert (await worker.answer(ALICE, challenge_id, code)).view.state is ChallengeState.APPROVED


async def test_s2_a_lost_acknowledgement_leaves_the_challenge_approved(
    world, worker, clock, app, challenge_id
):
    code = app.code(clock.now())
    world.database.acknowledges_commits = False
    with pytest.raises(StoreUnavailableError):
        await worker.answer(ALICE, challenge_id, code, REQUEST)
    world.database.acknowledges_commits = True
    with pytest.raises(ChallengeStateError, match="approved already"):
        await worker.answer(ALICE, challenge_id, code, REQUEST)


@pytest.mark.parametrize("is_right", [True, False])
async def test_the_same_request_again_is_no_second_attempt(
    world, worker, app, challenge_id, is_right
):
    code = app.code(worker.clock.now()) if is_right else app.wrong_code(worker.clock.now())
    first = await worker.answer(ALICE, challenge_id, code, REQUEST)
    before = await world.state()
    again = await (await world.worker()).answer(ALICE, challenge_id, code, REQUEST)
    assert again == first
    assert await world.state() == before


async def test_a_recorded_outcome_comes_with_the_challenge_as_it_is_now(
    worker, clock, app, challenge_id
):
    code = app.code(clock.now())
    await worker.answer(ALICE, challenge_id, code, REQUEST)
    await worker.cancel_challenge(ALICE, challenge_id)
    again = await worker.answer(ALICE, challenge_id, code, REQUEST)
    assert again.verification.outcome is Outcome.VERIFIED
    assert again.view.state is ChallengeState.CANCELLED


async def test_s25_a_resend_whose_record_redis_has_lost_finds_the_challenge_approved(
    world, worker, clock, app, challenge_id
):
    code = app.code(clock.now())
    await worker.answer(ALICE, challenge_id, code, REQUEST)
    await world.remember({})
    refused = await world.refuses(
        worker.answer(ALICE, challenge_id, code, REQUEST), ChallengeStateError
    )
    assert refused.state == "approved"


async def test_s28_a_recorded_outcome_whose_approval_the_database_has_lost_is_not_answered(
    world, worker, clock, app, challenge_id
):
    code = app.code(clock.now())
    await worker.answer(ALICE, challenge_id, code, REQUEST)
    world.sql(
        "UPDATE challenges SET state = 'pending', verified_at = NULL, usable_until = NULL,"
        " verified_session = NULL, enrollment_id = NULL"
    )
    again = await worker.answer(ALICE, challenge_id, code, REQUEST)
    assert again.verification.outcome is Outcome.REJECTED
    assert again.view.state is ChallengeState.PENDING


async def test_a_request_id_of_another_challenge_code_or_method_is_refused(
    world, worker, clock, app, challenge_id
):
    other = await worker.challenge(ALICE)
    code = app.wrong_code(clock.now())
    await worker.answer(ALICE, challenge_id, code, REQUEST)
    for call in (
        worker.answer(ALICE, other, code, REQUEST),
        worker.answer(ALICE, challenge_id, app.code(clock.now()), REQUEST),
        worker.answer(PHONE, challenge_id, code, REQUEST),
        worker.answer(ALICE, challenge_id, code, REQUEST, caller="another-service"),
        worker.verify(ALICE, code, REQUEST),
    ):
        refused = await world.refuses(call, InvalidFieldError)
        assert refused.field == "request_id"


async def test_a_request_id_of_an_elevation_approves_nothing(
    world, worker, clock, app, challenge_id
):
    code = app.code(clock.now())
    await worker.verify(ALICE, code, REQUEST)
    await world.refuses(worker.answer(ALICE, challenge_id, code, REQUEST), InvalidFieldError)


async def test_a_refused_challenge_gives_the_request_id_back(worker, clock, app, challenge_id):
    code = app.code(clock.now())
    with pytest.raises(ChallengeStateError):
        await worker.answer(ALICE, UNKNOWN, code, REQUEST)
    answered = await worker.answer(ALICE, challenge_id, code, REQUEST)
    assert answered.view.state is ChallengeState.APPROVED


async def test_an_attempt_is_finished_although_its_call_is_cancelled(
    world, worker, clock, app, challenge_id
):
    reached, let_go = asyncio.Event(), asyncio.Event()

    async def hold_up():
        reached.set()
        await let_go.wait()

    world.database.before_transaction = hold_up
    code = app.code(clock.now())
    call = asyncio.create_task(worker.answer(ALICE, challenge_id, code, REQUEST))
    await reached.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    let_go.set()
    await worker.drain()
    again = await worker.answer(ALICE, challenge_id, code, REQUEST)
    assert again.verification.outcome is Outcome.VERIFIED
    assert again.view.state is ChallengeState.APPROVED
