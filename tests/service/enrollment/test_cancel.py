"""`CancelEnrollment`: abandon the wizard of this session."""

import pytest
from stepup_tests.people import person

from stepup.domain.audit import EventKind
from stepup.domain.errors import EnrollmentStateError

ALICE = person()
ON_PHONE = person(session="phone")


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
