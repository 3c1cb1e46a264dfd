"""`ConfirmEnrollment`: the app holds the secret; here is the reset code."""

from datetime import timedelta

import pytest
from stepup_tests.metrics import metric
from stepup_tests.otp import code_at, wrong_code_at
from stepup_tests.people import person
from stepup_tests.worker import OSQUERY

from stepup.domain.audit import EventKind
from stepup.domain.authenticator import Attempt
from stepup.domain.elevation import Outcome
from stepup.domain.errors import EnrollmentFault, EnrollmentStateError, StoreUnavailableError
from stepup.service.enrollment.confirm import Confirmation

ALICE = person()
ON_PHONE = person(session="phone")


@pytest.fixture
async def secret(worker):
    return (await worker.begin(ALICE)).secret.octets


@pytest.fixture
def right(secret, clock):
    return code_at(secret, clock.now())


@pytest.fixture
def wrong(secret, clock):
    return wrong_code_at(secret, clock.now())


async def test_s7_a_wrong_code_tells_how_many_tries_are_left(worker, wrong):
    left = [(await worker.confirm(ALICE, wrong)).tries_remaining for _ in range(5)]
    assert left == [4, 3, 2, 1, 0]


async def test_s7_the_fifth_wrong_code_ends_the_wizard(world, worker, right, wrong):
    for _ in range(5):
        await worker.confirm(ALICE, wrong)
    await world.refuses(worker.confirm(ALICE, right), EnrollmentStateError)


@pytest.mark.parametrize("steps", [-1, 1])
async def test_s1_a_code_of_a_neighbouring_step_is_wrong(worker, clock, secret, steps):
    code = code_at(secret, clock.now(), steps=steps)
    assert (await worker.confirm(ALICE, code)).reset_code is None


async def test_s1_a_deployment_may_accept_the_step_before(world, clock):
    worker = await world.worker(back_steps=1)
    secret = (await worker.begin(ALICE)).secret.octets
    code = code_at(secret, clock.now(), steps=-1)
    assert (await worker.confirm(ALICE, code)).reset_code is not None


async def test_s7_after_ten_minutes_nothing_is_confirmed(worker, clock, secret):
    await worker.advance(minutes=10)
    with pytest.raises(EnrollmentStateError):
        await worker.confirm(ALICE, code_at(secret, clock.now()))


async def test_s7_another_session_confirms_nothing(worker, right):
    with pytest.raises(EnrollmentStateError):
        await worker.confirm(ON_PHONE, right)


async def next_code(worker, secret):
    await worker.advance(seconds=30)
    return code_at(secret, worker.clock.now())


async def test_s8_the_new_reset_code_takes_the_place_of_the_one_before(worker, secret, right):
    first = await worker.confirm(ALICE, right)
    second = await worker.confirm(ALICE, await next_code(worker, secret))
    await worker.complete(ALICE)
    assert (await worker.reset(ALICE, first.reset_code)).outcome is Attempt.WRONG
    assert (await worker.reset(ALICE, second.reset_code)).is_accepted


async def test_s2_the_further_code_is_used_up(worker, secret, right):
    await worker.confirm(ALICE, right)
    code = await next_code(worker, secret)
    await worker.confirm(ALICE, code)
    await worker.complete(ALICE)
    assert (await worker.verify(ALICE, code)).outcome is Outcome.REJECTED


async def test_s22_the_code_that_confirmed_sent_again_changes_nothing(world, worker, right):
    """Browsers send a form twice; the person then waits for the next code."""
    confirmed = await worker.confirm(ALICE, right)
    worker.clock.advance(seconds=10)
    before = await world.state()
    again = await worker.confirm(ALICE, right)
    assert again == Confirmation(None, confirmed.tries_remaining, timedelta(seconds=15))
    assert await world.state() == before


async def test_s22_a_code_that_is_a_step_late_changes_nothing(world, worker, clock, secret):
    before = await world.state()
    late = await worker.confirm(ALICE, code_at(secret, clock.now(), steps=-1))
    assert late == Confirmation(None, 5, timedelta(seconds=25))
    assert await world.state() == before


async def test_s2_s22_a_code_before_the_one_that_confirmed_changes_nothing(world, clock):
    worker = await world.worker(back_steps=1)
    secret = (await worker.begin(ALICE)).secret.octets
    await worker.confirm(ALICE, code_at(secret, clock.now()))
    before = await world.state()
    earlier = await worker.confirm(ALICE, code_at(secret, clock.now(), steps=-1))
    assert earlier.reset_code is None
    assert await world.state() == before


async def test_s7_wrong_codes_end_a_confirmed_wizard_too(worker, right, wrong):
    await worker.confirm(ALICE, right)
    left = [(await worker.confirm(ALICE, wrong)).tries_remaining for _ in range(5)]
    assert left == [4, 3, 2, 1, 0]
    with pytest.raises(EnrollmentStateError):
        await worker.complete(ALICE)


async def test_s13_each_reset_code_is_one_event_that_says_whether_there_was_another(
    worker, secret, right
):
    await worker.confirm(ALICE, right)
    await worker.confirm(ALICE, await next_code(worker, secret))
    confirmed = await worker.events(EventKind.ENROLLMENT_CONFIRMED)
    assert [event.details["again"] for event in confirmed] == [False, True]


async def fault_of(call):
    with pytest.raises(EnrollmentStateError) as refused:
        await call
    return refused.value.fault


async def test_a_session_is_told_that_another_authenticator_came_into_force(worker, right):
    await worker.begin(ON_PHONE)
    await worker.confirm(ALICE, right)
    await worker.complete(ALICE)
    with pytest.raises(EnrollmentStateError, match="at 2026-01-01T12:00:05Z an") as refused:
        await worker.confirm(ON_PHONE, "123456")
    assert refused.value.fault is EnrollmentFault.OTHER_AUTHENTICATOR
    assert "call BeginEnrollment" in str(refused.value)


async def test_the_session_that_completed_is_told_so(worker, right):
    await worker.confirm(ALICE, right)
    await worker.complete(ALICE)
    assert await fault_of(worker.confirm(ALICE, right)) is EnrollmentFault.COMPLETED


async def test_what_came_into_force_before_any_open_wizard_is_not_blamed(worker):
    await worker.wizard(ON_PHONE)
    await worker.advance(minutes=10)
    assert await fault_of(worker.confirm(ALICE, "123456")) is EnrollmentFault.NOTHING_PENDING


async def test_an_expired_wizard_is_not_blamed_on_another_authenticator(worker, clock, secret):
    await worker.advance(minutes=10)
    code = code_at(secret, clock.now())
    assert await fault_of(worker.confirm(ALICE, code)) is EnrollmentFault.NOTHING_PENDING


async def test_s7_a_confirmed_wizard_grants_nothing(worker, right):
    await worker.select(OSQUERY)
    await worker.confirm(ALICE, right)
    assert (await worker.verify(ALICE, right)).outcome is Outcome.NOT_ENROLLED
    assert (await worker.standing(ALICE)).active is None


async def test_s1_a_near_miss_is_counted(worker, clock, secret):
    before = metric("stepup_near_misses_total", step="before")
    await worker.confirm(ALICE, code_at(secret, clock.now(), steps=-1))
    assert metric("stepup_near_misses_total", step="before") == before + 1


async def test_s13_a_wrong_code_is_one_event(worker, clock, secret):
    await worker.confirm(ALICE, code_at(secret, clock.now(), steps=1))
    event = (await worker.events())[-1]
    assert event.kind is EventKind.ENROLLMENT_REJECTED
    assert event.details["near_miss"] == 1
    assert event.details["tries_remaining"] == 4


async def test_s8_the_reset_code_is_not_stored_as_it_is(world, worker, right):
    confirmation = await worker.confirm(ALICE, right)
    stored = repr(await world.state())
    assert confirmation.reset_code.text not in stored
    assert repr(confirmation.reset_code.octets)[2:-1] not in stored


@pytest.mark.parametrize("fault", ["writes", "audit_trail_takes_events", "commits"])
@pytest.mark.parametrize("make", [code_at, wrong_code_at])
async def test_s13_without_its_event_nothing_is_confirmed(world, worker, secret, fault, make):
    code = make(secret, world.clock.now())
    setattr(world.database, fault, False)
    await world.refuses(worker.confirm(ALICE, code))


async def test_what_was_lost_in_a_failed_confirmation_is_confirmed_by_the_same_code(
    world, worker, right
):
    world.database.commits = False
    with pytest.raises(StoreUnavailableError):
        await worker.confirm(ALICE, right)
    world.database.commits = True
    assert (await worker.confirm(ALICE, right)).reset_code is not None
