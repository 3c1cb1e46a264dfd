"""`UnlockUser`: who ends the lock of whom, how often, and what stays."""

from datetime import timedelta

import pytest
from stepup_tests.metrics import metric
from stepup_tests.people import administrator, operator, person
from stepup_tests.worker import OSQUERY, details_of

from stepup.domain.audit import EventKind, written
from stepup.domain.elevation import Outcome
from stepup.domain.errors import (
    ElevationRequiredError,
    EnrollmentFault,
    EnrollmentStateError,
    NotForOneselfError,
    RoleRequiredError,
    UnknownPersonError,
    UnlockLimitError,
)

ALICE = person()
ROOT = administrator()
OLGA = operator()
ACTORS = pytest.mark.parametrize("actor", [ROOT, OLGA], ids=["administrator", "operator"])


@pytest.fixture
async def app(worker):
    await worker.select(OSQUERY)
    return await worker.enrol(ALICE)


@pytest.fixture
async def locked(worker, app):
    """Alice is locked, and the administrator is elevated."""
    await worker.elevate(ROOT, await worker.enrol(ROOT))
    await worker.fail(ALICE, app, times=5)
    return app


def without_events(world):
    rows = world.tables()
    del rows["audit_events"], rows["audit_heads"]
    return rows


async def assert_read(worker, user):
    """The last event says that the operator has read something of the user (S16)."""
    event = (await worker.events())[-1]
    assert (event.kind, event.subject_user_id) == (EventKind.OPERATOR_READ, user)
    assert event.details["method"] == "PeopleService/UnlockUser"


async def refused_on_record(world, worker, user, error):
    """Await an operator's call that fails, and changes nothing but the audit trail."""
    rows = without_events(world)
    with pytest.raises(error) as refused:
        await worker.unlock(OLGA, user)
    assert without_events(world) == rows
    await assert_read(worker, user)
    return refused.value


@ACTORS
async def test_s4_an_unlocked_person_gives_a_code(worker, locked, actor):
    assert await worker.unlock(actor, "alice") == 2
    await worker.advance(seconds=30)
    await worker.elevate(ALICE, locked)


@ACTORS
async def test_s13_the_event_has_who_whom_and_why(worker, clock, locked, actor):
    before = len(await worker.events())
    await worker.unlock(actor, "alice", reason="guessed by a colleague")
    [event] = (await worker.events())[before:]
    stated = {"reason": "guessed by a colleague"} if actor is ROOT else {}
    assert event.kind is (
        EventKind.USER_UNLOCKED if actor is ROOT else EventKind.USER_UNLOCKED_BY_OPERATOR
    )
    assert event.actor_user_id == ("root" if actor is ROOT else None)
    assert event.subject_user_id == "alice"
    assert event.details == details_of(
        actor,
        enrollment_id=locked.enrollment_id,
        locked_until=written(clock.now() + timedelta(minutes=15)),
        unlocks_remaining=2,
        **stated,
    )


@pytest.mark.usefixtures("locked")
async def test_an_unlock_of_an_operator_is_counted_once_it_is_committed(world, worker):
    def count():
        return metric("stepup_operator_acts_total", kind="user_unlocked_by_operator")

    before = count()
    world.database.commits = False
    await world.refuses(worker.unlock(OLGA, "alice"))
    assert count() == before
    world.database.commits = True
    await worker.unlock(OLGA, "alice")
    assert count() == before + 1


@pytest.mark.usefixtures("app")
async def test_a_person_who_is_not_locked_stays_as_they_are(world, worker, app):
    await worker.fail(ALICE, app, times=4)
    await worker.elevate(ROOT, await worker.enrol(ROOT))
    before = await world.state()
    assert await worker.unlock(ROOT, "alice") == 3
    assert await world.state() == before
    rows = without_events(world)
    assert await worker.unlock(OLGA, "alice") == 3
    assert without_events(world) == rows
    await assert_read(worker, "alice")


@pytest.mark.usefixtures("app")
async def test_s16_an_operator_learns_nothing_of_a_person_that_cannot_be_recorded(world, worker):
    world.database.audit_trail_takes_events = False
    await world.refuses(worker.unlock(OLGA, "alice"))
    await world.refuses(worker.unlock(OLGA, "nobody"))


async def test_s4_the_failures_in_a_row_stay_and_the_next_lock_is_longer(worker, locked):
    await worker.unlock(OLGA, "alice")
    await worker.advance(seconds=30)
    failed = await worker.fail(ALICE, locked, times=5)
    assert failed.retry_after == timedelta(minutes=30)


async def test_s4_a_spent_session_stays_spent(worker, locked):
    await worker.unlock(OLGA, "alice")
    await worker.fail(ALICE, locked, times=5)
    await worker.unlock(OLGA, "alice")
    code = locked.code(worker.clock.now())
    assert (await worker.verify(ALICE, code)).outcome is Outcome.SESSION_SPENT
    await worker.elevate(person(session="phone"), locked)


async def test_s4_the_lock_of_the_24_hours_ends(worker, locked):
    for number in range(3):
        await worker.advance(minutes=61)
        failed = await worker.fail(person(session=f"guess-{number}"), locked, times=5)
    assert failed.retry_after > timedelta(hours=20)
    await worker.unlock(OLGA, "alice")
    await worker.advance(seconds=30)
    await worker.elevate(ALICE, locked)


async def test_s4_a_person_is_unlocked_three_times_in_24_hours(world, worker, locked):
    for number in range(3):
        assert await worker.unlock(OLGA, "alice") == 2 - number
        await worker.advance(minutes=1)
        await worker.fail(person(session=f"guess-{number}"), locked, times=5)
    refused = await refused_on_record(world, worker, "alice", UnlockLimitError)
    assert refused.retry_after == timedelta(hours=24) - timedelta(minutes=3)
    await worker.advance(minutes=24 * 60 - 3)
    await worker.fail(person(session="guess"), locked, times=5)
    assert await worker.unlock(OLGA, "alice") == 0


async def test_s4_nobody_unlocks_a_suspended_person(world, worker, app):
    await worker.suspend(app)
    refused = await refused_on_record(world, worker, "alice", EnrollmentStateError)
    assert refused.fault is EnrollmentFault.SUSPENDED


@pytest.mark.usefixtures("locked")
async def test_nobody_is_known_by_the_id(world, worker):
    await refused_on_record(world, worker, "nobody", UnknownPersonError)


@pytest.mark.usefixtures("locked")
async def test_a_person_of_another_tenant_is_unknown(world, worker):
    await worker.enrol(person("carol", tenant="globex"))
    await world.refuses(worker.unlock(ROOT, "carol"), UnknownPersonError)
    await refused_on_record(world, worker, "carol", UnknownPersonError)


async def test_a_known_person_without_an_authenticator_has_no_lock(world, worker):
    await worker.begin(ALICE)
    refused = await refused_on_record(world, worker, "alice", EnrollmentStateError)
    assert refused.fault is EnrollmentFault.NO_AUTHENTICATOR


async def test_an_administrator_needs_an_own_elevation(world, worker, app):
    await worker.enrol(ROOT)
    await worker.fail(ALICE, app, times=5)
    await world.refuses(worker.unlock(ROOT, "alice"), ElevationRequiredError)


@pytest.mark.usefixtures("locked")
async def test_another_role_unlocks_nobody_even_elevated(world, worker):
    bob = person("bob")
    await worker.elevate(bob, await worker.enrol(bob))
    await world.refuses(worker.unlock(bob, "alice"), RoleRequiredError)


async def test_s4_an_administrator_does_not_unlock_themselves(world, worker):
    app = await worker.enrol(ROOT)
    await worker.elevate(ROOT, app)
    await worker.fail(ROOT, app, times=5)
    await world.refuses(worker.unlock(ROOT, "root"), NotForOneselfError)


@pytest.mark.usefixtures("locked")
@pytest.mark.parametrize("fault", ["writes", "audit_trail_takes_events", "commits"])
async def test_s13_without_its_event_no_lock_ends(world, worker, fault):
    setattr(world.database, fault, False)
    await world.refuses(worker.unlock(OLGA, "alice"))


@pytest.mark.usefixtures("locked")
async def test_s17_without_redis_an_administrator_unlocks_nobody_and_an_operator_does(
    world, worker
):
    world.elevations.finds = False
    await world.refuses(worker.unlock(ROOT, "alice"))
    await worker.unlock(OLGA, "alice")
