"""`IssueResetCode`: an elevated user gets a new reset code."""

import pytest
from stepup_tests.people import person
from stepup_tests.worker import details_of

from stepup.domain.audit import EventKind
from stepup.domain.authenticator import Attempt
from stepup.domain.errors import ElevationRequiredError, EnrollmentFault, EnrollmentStateError
from stepup.domain.reset_code import ResetCode

ALICE = person()
ON_PHONE = person(session="phone")
WRONG = ResetCode(bytes(16))
FAULTS = ["writes", "audit_trail_takes_events", "commits"]


@pytest.fixture
async def app(worker):
    return await worker.enrol(ALICE)


@pytest.fixture
async def elevated(worker, app):
    await worker.elevate(ALICE, app)


@pytest.mark.usefixtures("elevated")
async def test_s8_the_new_reset_code_works_and_the_one_before_does_not(worker, app):
    issued = await worker.issue_reset_code(ALICE)
    assert (await worker.reset(ON_PHONE, app.reset_code)).outcome is Attempt.WRONG
    assert (await worker.reset(ON_PHONE, issued)).is_accepted


@pytest.mark.usefixtures("elevated")
async def test_each_call_issues_another(worker):
    first = await worker.issue_reset_code(ALICE)
    second = await worker.issue_reset_code(ALICE)
    assert (await worker.reset(ALICE, first)).outcome is Attempt.WRONG
    assert (await worker.reset(ALICE, second)).is_accepted


async def test_an_authenticator_without_a_reset_code_gets_one(world, worker, app):
    world.sql("DELETE FROM reset_codes")
    assert not (await worker.standing(ALICE)).has_reset_code
    await worker.elevate(ALICE, app)
    issued = await worker.issue_reset_code(ALICE)
    assert (await worker.standing(ALICE)).has_reset_code
    assert (await worker.reset(ALICE, issued)).is_accepted


@pytest.mark.usefixtures("app")
async def test_it_needs_an_elevation_of_the_session(world, worker):
    refused = await world.refuses(worker.issue_reset_code(ALICE), ElevationRequiredError)
    assert refused.is_enrolled


async def test_without_an_authenticator_the_refusal_names_the_state(world, worker):
    refused = await world.refuses(worker.issue_reset_code(ALICE), EnrollmentStateError)
    assert refused.fault is EnrollmentFault.NO_AUTHENTICATOR


@pytest.mark.usefixtures("elevated")
async def test_an_authenticator_that_ends_meanwhile_gets_none(world, worker):
    other = await world.worker()
    world.database.before_transaction = lambda: other.remove(ALICE)
    with pytest.raises(EnrollmentStateError) as refused:
        await worker.issue_reset_code(ALICE)
    assert refused.value.fault is EnrollmentFault.NO_AUTHENTICATOR


@pytest.mark.usefixtures("elevated")
async def test_it_needs_an_elevation_by_the_authenticator_in_force(world, worker, app):
    other = await world.worker()
    world.database.before_transaction = lambda: other.wizard(ON_PHONE, app.reset_code)
    with pytest.raises(ElevationRequiredError):
        await worker.issue_reset_code(ALICE)
    assert not await worker.events(EventKind.RESET_CODE_ISSUED)


@pytest.mark.usefixtures("elevated")
async def test_s8_a_new_reset_code_gives_a_session_that_waits_no_new_guesses(worker):
    for _ in range(10):
        await worker.reset(ON_PHONE, WRONG)
    issued = await worker.issue_reset_code(ALICE)
    assert (await worker.reset(ON_PHONE, issued)).outcome is Attempt.THROTTLED
    assert (await worker.reset(ALICE, issued)).is_accepted


@pytest.mark.usefixtures("elevated")
async def test_s13_each_reset_code_is_one_event(worker, app):
    await worker.issue_reset_code(ALICE)
    [event] = await worker.events(EventKind.RESET_CODE_ISSUED)
    assert event.subject_user_id == ALICE.user_id
    assert event.details == details_of(ALICE, enrollment_id=app.enrollment_id, replaced=True)


@pytest.mark.usefixtures("elevated")
@pytest.mark.parametrize("fault", FAULTS)
async def test_s13_without_its_event_no_reset_code_is_issued(world, worker, fault):
    setattr(world.database, fault, False)
    await world.refuses(worker.issue_reset_code(ALICE))
