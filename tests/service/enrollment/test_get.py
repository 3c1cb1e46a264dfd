"""`GetEnrollment`: where a user stands."""

from stepup_tests.people import person

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
