"""`SetAccountMfa`: the user's own toggle in Account Settings."""

import pytest
from stepup_tests.people import administrator, person
from stepup_tests.worker import OSQUERY

from stepup.domain.audit import EventKind
from stepup.domain.errors import (
    ElevationRequiredError,
    EnrollmentStateError,
    MfaEnforcedError,
)

ALICE = person()
FAULTS = ["reads", "writes", "audit_trail_takes_events", "commits"]


@pytest.fixture
async def app(world, worker):
    """The app of an account that is off, as those are that enrolled with an earlier version."""
    app = await worker.enrol(ALICE)
    world.sql("DELETE FROM accounts")
    return app


@pytest.fixture
async def turned_on(worker, app):  # noqa: ARG001  # it needs an authenticator
    await worker.set_account_mfa(ALICE, enabled=True)


async def is_on(worker, actor=ALICE):
    return (await worker.standing(actor)).account_mfa_enabled


async def test_without_an_authenticator_it_stays_off(world, worker):
    await world.refuses(worker.set_account_mfa(ALICE, enabled=True), EnrollmentStateError)


async def test_s7_a_pending_enrollment_is_no_authenticator(worker):
    await worker.begin(ALICE)
    with pytest.raises(EnrollmentStateError):
        await worker.set_account_mfa(ALICE, enabled=True)


@pytest.mark.usefixtures("turned_on")
async def test_turning_it_off_needs_an_elevation(world, worker):
    refused = await world.refuses(
        worker.set_account_mfa(ALICE, enabled=False), ElevationRequiredError
    )
    assert refused.is_enrolled


async def test_on_without_an_authenticator_the_way_on_is_to_enrol(world, worker):
    """Servers of earlier versions left accounts so; enrolling elevates, and turns it off then."""
    world.sql("INSERT INTO accounts VALUES ('acme', 'alice', 1)")
    with pytest.raises(ElevationRequiredError, match="BeginEnrollment") as refused:
        await worker.set_account_mfa(ALICE, enabled=False)
    assert not refused.value.is_enrolled
    await worker.wizard(ALICE)
    await worker.set_account_mfa(ALICE, enabled=False)
    assert not await is_on(worker)


@pytest.mark.usefixtures("turned_on")
async def test_it_cannot_be_turned_off_while_the_policy_is_enabled(world, worker, app):
    await worker.select(OSQUERY)
    await worker.elevate(ALICE, app)
    await world.refuses(worker.set_account_mfa(ALICE, enabled=False), MfaEnforcedError)


@pytest.mark.usefixtures("turned_on")
async def test_it_stays_on_where_the_policy_is_enabled_meanwhile(world, worker, app):
    other_worker = await world.worker()
    await worker.elevate(ALICE, app)

    async def enable_it():
        await other_worker.select(OSQUERY)

    world.database.before_transaction = enable_it
    with pytest.raises(MfaEnforcedError):
        await worker.set_account_mfa(ALICE, enabled=False)
    assert await is_on(worker)


@pytest.mark.usefixtures("turned_on")
async def test_a_policy_that_is_disabled_enforces_nothing(worker, app):
    await worker.update_policy(administrator(), selected=[OSQUERY])
    await worker.elevate(ALICE, app)
    await worker.set_account_mfa(ALICE, enabled=False)
    assert not await is_on(worker)


@pytest.mark.usefixtures("turned_on")
async def test_turning_it_to_where_it_stands_changes_nothing(world, worker):
    before = await world.state()
    await worker.set_account_mfa(ALICE, enabled=True)
    assert await world.state() == before


async def test_what_is_off_is_turned_off_by_anybody(world, worker):
    await worker.select(OSQUERY)
    before = await world.state()
    await worker.set_account_mfa(ALICE, enabled=False)
    assert await world.state() == before


@pytest.mark.usefixtures("turned_on")
async def test_s13_each_turn_is_one_event(worker, app):
    await worker.elevate(ALICE, app)
    await worker.set_account_mfa(ALICE, enabled=False)
    turns = await worker.events(EventKind.ACCOUNT_MFA_CHANGED)
    assert [event.details["enabled"] for event in turns[1:]] == [True, False]
    assert {event.details["cause"] for event in turns[1:]} == {"user"}


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize("fault", FAULTS)
async def test_s13_without_its_event_nothing_is_turned(world, worker, fault):
    setattr(world.database, fault, False)
    await world.refuses(worker.set_account_mfa(ALICE, enabled=True))
