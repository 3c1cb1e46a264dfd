"""`CompleteEnrollment`: the authenticator comes into force, and nothing before that."""

from dataclasses import replace
from datetime import timedelta

import pytest
from stepup_tests.otp import code_at
from stepup_tests.people import administrator, person
from stepup_tests.worker import OSQUERY, SIGN_IN, App, details_of

from stepup.domain.audit import EventKind
from stepup.domain.decision import Decision, Reason
from stepup.domain.elevation import Outcome
from stepup.domain.errors import EnrollmentFault, EnrollmentStateError
from stepup.service.step_up.revocation import Scope

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


async def test_s2_the_confirming_code_is_used_up(worker, clock):
    app = await worker.wizard(ALICE)
    assert (await worker.verify(ALICE, app.code(clock.now()))).outcome is Outcome.REJECTED


async def test_what_is_not_confirmed_is_not_completed(world, worker):
    await worker.begin(ALICE)
    await world.refuses(worker.complete(ALICE), EnrollmentStateError)


async def test_s7_after_ten_minutes_nothing_is_completed(world, worker):
    await confirmed(worker, ALICE)
    await worker.advance(minutes=10)
    await world.refuses(worker.complete(ALICE), EnrollmentStateError)


async def test_s7_another_session_completes_nothing(worker):
    await confirmed(worker, ALICE)
    with pytest.raises(EnrollmentStateError):
        await worker.complete(ON_PHONE)


async def test_completing_again_changes_nothing_and_answers_what_holds(world, worker):
    await confirmed(worker, ALICE)
    first = await worker.complete(ALICE)
    before = await world.state()
    await worker.advance(minutes=5)
    assert await worker.complete(ALICE) == first
    assert await world.state() == before


async def test_completing_again_elevates_nothing(worker):
    await worker.wizard(ALICE)
    await worker.revoke(ALICE)
    assert (await worker.complete(ALICE)).elevation is None


async def test_completing_again_answers_without_redis(world, worker):
    await confirmed(worker, ALICE)
    first = await worker.complete(ALICE)
    world.elevations.finds = False
    assert await worker.complete(ALICE) == replace(first, elevation=None)


async def test_completing_again_answers_no_elevation_by_another_authenticator(world, worker):
    """Redis has forgotten the end of the older one's elevations, and the feed is not read yet."""
    other_worker = await world.worker()
    await worker.advance(seconds=30)
    await other_worker.poll()
    await worker.wizard(ALICE)
    by_the_first = await world.remembered()
    await worker.wizard(ALICE)
    await world.remember(by_the_first)
    assert (await other_worker.complete(ALICE)).elevation is None


@pytest.mark.parametrize(
    ("actor", "minutes", "fault"),
    [
        pytest.param(ALICE, 10, EnrollmentFault.NOTHING_PENDING, id="too late"),
        pytest.param(ON_PHONE, 0, EnrollmentFault.OTHER_AUTHENTICATOR, id="another session"),
    ],
)
async def test_what_another_wizard_brought_into_force_is_no_completion(
    worker, actor, minutes, fault
):
    await worker.wizard(ALICE)
    await worker.advance(minutes=minutes)
    with pytest.raises(EnrollmentStateError) as refused:
        await worker.complete(actor)
    assert refused.value.fault is fault


async def test_a_wizard_begun_since_is_not_completed_by_the_earlier_one(worker):
    await worker.wizard(ALICE)
    await worker.begin(ALICE)
    with pytest.raises(EnrollmentStateError) as refused:
        await worker.complete(ALICE)
    assert refused.value.fault is EnrollmentFault.NOT_CONFIRMED


async def test_of_two_calls_at_once_the_later_answers_what_the_earlier_did(world, worker):
    """A transaction looks for the authenticator before it waits for the wizard."""
    other_worker = await world.worker()
    await confirmed(worker, ALICE)
    completions = []

    async def complete_it():
        completions.append(await other_worker.complete(ALICE))

    world.database.before_transaction = complete_it
    assert await worker.complete(ALICE) == completions[0]


async def test_s13_a_first_enrollment_is_four_events(worker):
    await worker.wizard(ALICE)
    assert [event.kind for event in await worker.events()] == [
        EventKind.ENROLLMENT_BEGUN,
        EventKind.ENROLLMENT_CONFIRMED,
        EventKind.ENROLLMENT_COMPLETED,
        EventKind.ACCOUNT_MFA_CHANGED,
    ]


async def test_completing_turns_the_accounts_mfa_on(worker):
    await worker.wizard(ALICE)
    assert (await worker.standing(ALICE)).account_mfa_enabled
    [event] = await worker.events(EventKind.ACCOUNT_MFA_CHANGED)
    assert event.details == details_of(ALICE, enabled=True, cause="enrollment_completed")


async def test_a_replacement_of_an_account_that_is_on_is_no_event_of_the_toggle(worker):
    await worker.wizard(ALICE)
    await worker.advance(seconds=30)
    await worker.wizard(ALICE)
    assert len(await worker.events(EventKind.ACCOUNT_MFA_CHANGED)) == 1


async def test_a_business_that_turns_its_policy_off_still_asks_enrolled_people_at_sign_in(worker):
    root = administrator()
    await worker.select(OSQUERY)
    await worker.enrol(ALICE)
    await worker.elevate(root, await worker.enrol(root))
    await worker.update_policy(root, enabled=False)
    at_sign_in = {
        user: (await worker.check(person(user, session="new"), SIGN_IN)).verdict.reason
        for user in ("alice", "bob")
    }
    assert at_sign_in == {"alice": Reason.NOT_ELEVATED, "bob": Reason.MFA_NOT_ENABLED}


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
    await world.refuses(worker.complete(ALICE), EnrollmentStateError)


async def test_the_event_says_what_was_replaced_and_by_what_right(worker, old):
    new = await worker.wizard(ON_PHONE, old.reset_code)
    details = (await worker.events())[-1].details
    assert details == details_of(
        ON_PHONE,
        enrollment_id=new.enrollment_id,
        replaced=old.enrollment_id,
        by_reset_code=True,
    )


@pytest.mark.parametrize("fault", ["writes", "audit_trail_takes_events", "commits"])
async def test_s13_without_its_event_nothing_comes_into_force(world, worker, old, fault):
    await confirmed(worker, ON_PHONE, old.reset_code)
    setattr(world.database, fault, False)
    await world.refuses(worker.complete(ON_PHONE))


async def test_without_redis_the_authenticator_is_in_force_and_nothing_elevated(world, worker):
    await worker.select(OSQUERY)
    await confirmed(worker, ALICE)
    world.elevations.replaces = False
    completion = await worker.complete(ALICE)
    assert completion.elevation is None
    assert (await worker.check(ALICE)).verdict.reason is Reason.NOT_ELEVATED


async def test_s10_without_redis_the_older_elevations_end_all_the_same(world, worker, old):
    await worker.elevate(ALICE, old)
    await confirmed(worker, ON_PHONE, old.reset_code)
    world.elevations.replaces = world.elevations.revokes = False
    await worker.complete(ON_PHONE)
    assert (await worker.check(ALICE)).verdict.decision is Decision.STEP_UP_REQUIRED
