"""`ConfirmEnrollment`: the app holds the secret; here is the reset code."""

import pytest
from support.metrics import metric
from support.otp import code_at, wrong_code_at
from support.people import person
from support.worker import OSQUERY

from stepup.domain.audit import EventKind
from stepup.domain.enrollment import EnrollmentState
from stepup.domain.errors import EnrollmentStateError, StoreUnavailableError
from stepup.domain.verification import Outcome

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


async def test_a_right_code_shows_the_reset_code(worker, right):
    confirmation = await worker.confirm(ALICE, right)
    assert len(confirmation.reset_code.octets) == 16


async def test_a_wrong_code_shows_no_reset_code(worker, wrong):
    assert (await worker.confirm(ALICE, wrong)).reset_code is None


async def test_s7_a_wrong_code_tells_how_many_tries_are_left(worker, wrong):
    left = [(await worker.confirm(ALICE, wrong)).tries_remaining for _ in range(5)]
    assert left == [4, 3, 2, 1, 0]


async def test_s7_the_fifth_wrong_code_ends_the_wizard(world, worker, right, wrong):
    for _ in range(5):
        await worker.confirm(ALICE, wrong)
    before = await world.state()
    with pytest.raises(EnrollmentStateError):
        await worker.confirm(ALICE, right)
    assert await world.state() == before


async def test_a_right_code_after_wrong_ones_is_right(worker, right, wrong):
    for _ in range(4):
        await worker.confirm(ALICE, wrong)
    assert (await worker.confirm(ALICE, right)).reset_code is not None


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


async def test_until_ten_minutes_have_passed_it_is_confirmed(worker, clock, secret):
    await worker.advance(minutes=10, seconds=-1)
    assert (await worker.confirm(ALICE, code_at(secret, clock.now()))).reset_code is not None


async def test_s7_another_session_confirms_nothing(worker, right):
    with pytest.raises(EnrollmentStateError):
        await worker.confirm(ON_PHONE, right)


async def test_without_a_wizard_nothing_is_confirmed(worker):
    with pytest.raises(EnrollmentStateError):
        await worker.confirm(ALICE, "123456")


async def test_the_reset_code_is_shown_once(world, worker, right):
    await worker.confirm(ALICE, right)
    before = await world.state()
    with pytest.raises(EnrollmentStateError):
        await worker.confirm(ALICE, right)
    assert await world.state() == before


async def test_s7_a_confirmed_wizard_grants_nothing(worker, right):
    await worker.select(OSQUERY)
    await worker.confirm(ALICE, right)
    assert (await worker.verify(ALICE, right)).outcome is Outcome.NOT_ENROLLED
    assert (await worker.standing(ALICE)).active is None


async def test_a_confirmed_wizard_is_still_open(worker, right):
    await worker.confirm(ALICE, right)
    assert (await worker.standing(ALICE)).pending.state is EnrollmentState.CONFIRMED


async def test_s1_a_near_miss_is_counted(worker, clock, secret):
    before = metric("stepup_near_misses_total", step="before")
    await worker.confirm(ALICE, code_at(secret, clock.now(), steps=-1))
    assert metric("stepup_near_misses_total", step="before") == before + 1


async def test_s13_a_right_code_is_one_event(worker, right):
    await worker.confirm(ALICE, right)
    kinds = [event.kind for event in await worker.events()]
    assert kinds == [EventKind.ENROLLMENT_BEGUN, EventKind.ENROLLMENT_CONFIRMED]


async def test_s13_a_wrong_code_is_one_event(worker, clock, secret):
    await worker.confirm(ALICE, code_at(secret, clock.now(), steps=-1))
    event = (await worker.events())[-1]
    assert event.kind is EventKind.ENROLLMENT_REJECTED
    assert event.details["near_miss"] == -1
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
    before = await world.state()
    setattr(world.database, fault, False)
    with pytest.raises(StoreUnavailableError):
        await worker.confirm(ALICE, code)
    assert await world.state() == before


async def test_what_was_lost_in_a_failed_confirmation_is_confirmed_by_the_same_code(
    world, worker, right
):
    world.database.commits = False
    with pytest.raises(StoreUnavailableError):
        await worker.confirm(ALICE, right)
    world.database.commits = True
    assert (await worker.confirm(ALICE, right)).reset_code is not None
