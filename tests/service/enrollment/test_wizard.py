"""`GetEnrollment` and `CancelEnrollment`: where a user stands, and the end of a wizard."""

import pytest
from stepup_tests.people import person

from stepup.domain.audit import EventKind
from stepup.domain.errors import EnrollmentStateError

ALICE = person()
ON_PHONE = person(session="phone")


async def test_s7_the_wizard_of_another_session_is_not_there(worker):
    await worker.begin(ON_PHONE)
    assert (await worker.standing(ALICE)).pending is None


async def test_an_expired_wizard_is_none(worker):
    await worker.begin(ALICE)
    await worker.advance(minutes=10)
    assert (await worker.standing(ALICE)).pending is None


async def test_a_wizard_without_tries_is_none(worker):
    await worker.begin(ALICE)
    for _ in range(5):
        await worker.confirm(ALICE, "000000")
    assert (await worker.standing(ALICE)).pending is None


async def test_reading_changes_nothing(world, worker):
    await worker.enrol(ALICE)
    before = await world.state()
    await worker.standing(ALICE)
    assert await world.state() == before


async def test_the_wizard_is_gone(worker):
    await worker.begin(ALICE)
    await worker.cancel(ALICE)
    assert (await worker.standing(ALICE)).pending is None
    with pytest.raises(EnrollmentStateError):
        await worker.confirm(ALICE, "123456")


async def test_the_other_sessions_wizard_stays_open(worker):
    await worker.begin(ON_PHONE)
    await worker.begin(ALICE)
    await worker.cancel(ALICE)
    assert (await worker.standing(ON_PHONE)).pending is not None


async def test_the_active_authenticator_stays_in_force(worker):
    app = await worker.enrol(ALICE)
    await worker.begin(ALICE, app.reset_code)
    await worker.cancel(ALICE)
    await worker.elevate(ALICE, app)


async def test_s13_it_is_one_event(worker):
    await worker.begin(ALICE)
    await worker.cancel(ALICE)
    kinds = [event.kind for event in await worker.events()]
    assert kinds == [EventKind.ENROLLMENT_BEGUN, EventKind.ENROLLMENT_CANCELLED]


async def test_without_a_wizard_nothing_changes(world, worker):
    before = await world.state()
    await worker.cancel(ALICE)
    assert await world.state() == before


@pytest.mark.parametrize("fault", ["writes", "audit_trail_takes_events", "commits"])
async def test_s13_without_its_event_nothing_is_cancelled(world, worker, fault):
    await worker.begin(ALICE)
    setattr(world.database, fault, False)
    await world.refuses(worker.cancel(ALICE))
