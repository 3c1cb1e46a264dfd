"""`CompleteEnrollment`: the authenticator comes into force, and nothing before that."""

from datetime import timedelta

import pytest
from support.otp import code_at
from support.people import person
from support.worker import OSQUERY, App, details_of

from stepup.domain.audit import EventKind
from stepup.domain.authenticator import Attempt
from stepup.domain.decision import Decision, Reason
from stepup.domain.errors import EnrollmentStateError, StoreUnavailableError
from stepup.domain.verification import Outcome
from stepup.service.revoke_elevations import Scope

ALICE = person()
ON_PHONE = person(session="phone")


async def confirmed(worker, actor, reset_code=None):
    """Go as far as the second screen."""
    screen = await worker.begin(actor, reset_code)
    octets = screen.secret.octets
    confirmation = await worker.confirm(actor, code_at(octets, worker.clock.now()))
    return App(screen.enrollment_id, octets, confirmation.reset_code)


async def test_the_authenticator_comes_into_force(worker, clock):
    app = await confirmed(worker, ALICE)
    completion = await worker.complete(ALICE)
    assert completion.authenticator.enrollment_id == app.enrollment_id
    assert completion.authenticator.activated_at == clock.now()
    assert (await worker.standing(ALICE)).active == completion.authenticator


async def test_completing_elevates_the_session(worker):
    await worker.select(OSQUERY)
    await confirmed(worker, ALICE)
    completion = await worker.complete(ALICE)
    verdict = (await worker.check(ALICE)).verdict
    assert (verdict.reason, verdict.elevation) == (Reason.ELEVATED, completion.elevation)


async def test_completing_elevates_no_other_session(worker):
    await worker.select(OSQUERY)
    await worker.wizard(ALICE)
    assert (await worker.check(ON_PHONE)).verdict.reason is Reason.NOT_ELEVATED


async def test_s2_the_confirming_code_is_used_up(worker, clock):
    app = await worker.wizard(ALICE)
    assert (await worker.verify(ALICE, app.code(clock.now()))).outcome is Outcome.REJECTED


async def test_the_next_code_is_right(worker, clock):
    app = await worker.wizard(ALICE)
    await worker.advance(seconds=30)
    assert (await worker.verify(ALICE, app.code(clock.now()))).outcome is Outcome.VERIFIED


async def test_the_reset_code_is_in_force(worker):
    app = await worker.wizard(ALICE)
    assert (await worker.reset(ALICE, app.reset_code)).is_accepted


async def test_without_a_wizard_nothing_is_completed(world, worker):
    before = await world.state()
    with pytest.raises(EnrollmentStateError):
        await worker.complete(ALICE)
    assert await world.state() == before


async def test_what_is_not_confirmed_is_not_completed(world, worker):
    await worker.begin(ALICE)
    before = await world.state()
    with pytest.raises(EnrollmentStateError):
        await worker.complete(ALICE)
    assert await world.state() == before


async def test_s7_after_ten_minutes_nothing_is_completed(world, worker):
    await confirmed(worker, ALICE)
    await worker.advance(minutes=10)
    before = await world.state()
    with pytest.raises(EnrollmentStateError):
        await worker.complete(ALICE)
    assert await world.state() == before


async def test_s7_another_session_completes_nothing(worker):
    await confirmed(worker, ALICE)
    with pytest.raises(EnrollmentStateError):
        await worker.complete(ON_PHONE)


async def test_a_wizard_is_completed_once(worker):
    await worker.wizard(ALICE)
    with pytest.raises(EnrollmentStateError):
        await worker.complete(ALICE)


async def test_s13_a_first_enrollment_is_three_events(worker):
    await worker.wizard(ALICE)
    assert [event.kind for event in await worker.events()] == [
        EventKind.ENROLLMENT_BEGUN,
        EventKind.ENROLLMENT_CONFIRMED,
        EventKind.ENROLLMENT_COMPLETED,
    ]


async def test_a_confirmed_wizard_without_a_reset_code_is_begun_again(world, worker):
    await confirmed(worker, ALICE)
    world.sql("UPDATE pending_enrollments SET reset_digest = NULL")
    with pytest.raises(EnrollmentStateError):
        await worker.complete(ALICE)


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("microseconds", [0, 1])
async def test_s10_an_enrollment_after_a_revocation_in_the_same_step_elevates(
    worker, clock, scope, microseconds
):
    """What was elevated by the instant of the revocation is void, what comes after it is not."""
    await worker.select(OSQUERY)
    app = await worker.enrol(ALICE)
    await worker.elevate(ALICE, app)
    await worker.revoke(ALICE, scope)
    await worker.reset(ALICE, app.reset_code)
    clock.set(clock.now() + timedelta(microseconds=microseconds))
    await worker.wizard(ALICE)
    expected = Reason.ELEVATED if microseconds else Reason.NOT_ELEVATED
    assert (await worker.check(ALICE)).verdict.reason is expected


# --- Replacing an older authenticator ---


@pytest.fixture
async def old(worker):
    await worker.select(OSQUERY)
    return await worker.enrol(ALICE)


async def test_s7_until_completion_the_older_authenticator_stays_in_force(worker, clock, old):
    await confirmed(worker, ON_PHONE, old.reset_code)
    assert (await worker.verify(ALICE, old.code(clock.now()))).outcome is Outcome.VERIFIED


async def test_after_completion_the_older_authenticator_is_out_of_force(worker, clock, old):
    await worker.wizard(ON_PHONE, old.reset_code)
    await worker.advance(seconds=30)
    assert (await worker.verify(ALICE, old.code(clock.now()))).outcome is Outcome.REJECTED


async def test_after_completion_the_older_reset_code_is_wrong(worker, old):
    await worker.wizard(ON_PHONE, old.reset_code)
    assert (await worker.reset(ALICE, old.reset_code)).outcome is Attempt.WRONG


async def test_completion_elevates_although_it_ends_the_elevations_of_the_older(worker, old):
    await worker.elevate(ALICE, old)
    await worker.wizard(ALICE)
    assert (await worker.check(ALICE)).verdict.reason is Reason.ELEVATED


async def test_s10_completion_ends_the_other_sessions_elevations(worker, old):
    await worker.elevate(ALICE, old)
    await worker.wizard(ON_PHONE, old.reset_code)
    assert (await worker.check(ALICE)).verdict.reason is Reason.NOT_ELEVATED


@pytest.mark.usefixtures("clock")
async def test_s10_completion_ends_an_elevation_of_the_same_instant(world, worker, old):
    """Only the enrollment tells it from the new one's."""
    before = await world.remembered()
    await worker.elevate(ALICE, old)
    by_the_old = await world.remembered()
    assert by_the_old != before
    await worker.wizard(ON_PHONE, old.reset_code)
    await world.remember(by_the_old)
    assert (await worker.check(ALICE)).verdict.reason is Reason.NOT_ELEVATED


async def test_completion_closes_the_other_sessions_wizards(worker, old):
    await confirmed(worker, ALICE, old.reset_code)
    await worker.wizard(ON_PHONE, old.reset_code)
    assert (await worker.standing(ALICE)).pending is None
    with pytest.raises(EnrollmentStateError):
        await worker.complete(ALICE)


async def test_of_two_first_wizards_the_first_to_complete_wins(worker):
    await confirmed(worker, ALICE)
    await confirmed(worker, ON_PHONE)
    completion = await worker.complete(ALICE)
    with pytest.raises(EnrollmentStateError):
        await worker.complete(ON_PHONE)
    assert (await worker.standing(ALICE)).active == completion.authenticator


async def test_s7_a_wizard_replaces_only_what_it_was_permitted_to(world, worker, old):
    """What is stored may have come about in another way: a restored backup."""
    await confirmed(worker, ALICE, old.reset_code)
    world.sql("UPDATE pending_enrollments SET replaces = 'another'")
    before = await world.state()
    with pytest.raises(EnrollmentStateError):
        await worker.complete(ALICE)
    assert await world.state() == before


async def test_the_event_says_what_was_replaced_and_by_what_right(worker, old):
    new = await worker.wizard(ON_PHONE, old.reset_code)
    details = (await worker.events())[-1].details
    assert details == details_of(
        ON_PHONE,
        enrollment_id=new.enrollment_id,
        replaced=old.enrollment_id,
        by_reset_code=True,
    )


async def test_a_replacement_starts_with_no_failures(worker, old):
    await worker.fail(ALICE, old, times=5)
    await worker.wizard(ON_PHONE, old.reset_code)
    assert not (await worker.standing(ALICE)).active.throttle.in_a_row


# --- Stores that fail ---


@pytest.mark.parametrize("fault", ["writes", "audit_trail_takes_events", "commits"])
async def test_s13_without_its_event_nothing_comes_into_force(world, worker, old, fault):
    await confirmed(worker, ON_PHONE, old.reset_code)
    before = await world.state()
    setattr(world.database, fault, False)
    with pytest.raises(StoreUnavailableError):
        await worker.complete(ON_PHONE)
    assert await world.state() == before


async def test_without_redis_the_authenticator_is_in_force_and_nothing_elevated(world, worker):
    await worker.select(OSQUERY)
    await confirmed(worker, ALICE)
    world.elevations.puts = False
    completion = await worker.complete(ALICE)
    assert completion.elevation is None
    assert (await worker.check(ALICE)).verdict.reason is Reason.NOT_ELEVATED


async def test_s10_without_redis_the_older_elevations_end_all_the_same(world, worker, old):
    await worker.elevate(ALICE, old)
    await confirmed(worker, ON_PHONE, old.reset_code)
    world.elevations.puts = world.elevations.revokes = False
    await worker.complete(ON_PHONE)
    assert (await worker.check(ALICE)).verdict.decision is Decision.STEP_UP_REQUIRED
