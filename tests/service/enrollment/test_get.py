"""`GetEnrollment`: where a user stands."""

from datetime import timedelta

import pytest
from stepup_tests.people import person

from stepup.domain.errors import StoreUnavailableError
from stepup.service.enrollment.get import Standing

ALICE = person()
ON_PHONE = person(session="phone")


async def test_a_new_user_has_nothing(worker):
    assert await worker.standing(ALICE) == Standing(None, None, account_mfa_enabled=False)


async def test_the_open_wizard_is_there(worker, clock):
    screen = await worker.begin(ALICE)
    pending = (await worker.standing(ALICE)).pending
    assert pending.enrollment_id == screen.enrollment_id
    assert pending.expires_at == clock.now() + timedelta(minutes=10)
    assert pending.tries_remaining == 5


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


async def test_the_active_authenticator_is_there_with_its_lock(worker, clock):
    app = await worker.enrol(ALICE)
    await worker.fail(ALICE, app, times=5)
    active = (await worker.standing(ON_PHONE)).active
    assert active.enrollment_id == app.enrollment_id
    assert active.throttle.retry_after(clock.now()) == timedelta(minutes=15)


async def test_the_toggle_is_there(worker):
    await worker.enrol(ALICE)
    await worker.set_account_mfa(ALICE, enabled=True)
    assert (await worker.standing(ALICE)).account_mfa_enabled


async def test_another_tenants_namesake_has_nothing(worker):
    await worker.enrol(ALICE)
    assert (await worker.standing(person(tenant="globex"))).active is None


async def test_reading_changes_nothing(world, worker):
    await worker.enrol(ALICE)
    before = await world.state()
    await worker.standing(ALICE)
    assert await world.state() == before


async def test_without_sql_there_is_no_answer(world, worker):
    world.database.reads = False
    with pytest.raises(StoreUnavailableError):
        await worker.standing(ALICE)
