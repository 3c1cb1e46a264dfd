"""`RevokeElevations`: sign-out, and the end of all of a user's elevations.

What it does to decisions is specified in test_check_step_up.
"""

from datetime import timedelta

import pytest
import structlog
from stepup_tests.metrics import metric
from stepup_tests.people import operator, person
from stepup_tests.worker import OSQUERY, details_of

from stepup.domain.audit import EventKind
from stepup.domain.decision import Reason
from stepup.domain.errors import StoreUnavailableError
from stepup.service.step_up.revocation import Scope

ALICE = person()
ON_PHONE = person(session="phone")


@pytest.fixture
async def app(worker):
    await worker.select(OSQUERY)
    return await worker.enrol(ALICE)


@pytest.mark.parametrize("scope", Scope)
async def test_s13_a_revocation_is_one_event_with_its_scope(worker, scope):
    await worker.revoke(ALICE, scope)
    [event] = await worker.events()
    assert event.kind is EventKind.ELEVATIONS_REVOKED
    assert event.details == details_of(ALICE, scope=scope.value)


async def test_s16_an_operator_ends_all_elevations_of_a_user(world, worker, app):
    other, sam = await world.worker(), operator()
    before = metric("stepup_operator_acts_total", kind="elevations_revoked_by_operator")
    await worker.elevate(ALICE, app)
    world.elevations.revokes = False
    await worker.revoke_for(sam, "alice")
    await other.poll()
    for each in (worker, other):
        assert (await each.check(ALICE)).verdict.reason is Reason.NOT_ELEVATED
    [event] = await worker.events(EventKind.ELEVATIONS_REVOKED_BY_OPERATOR)
    assert (event.actor_user_id, event.subject_user_id) == (None, "alice")
    assert event.details == details_of(sam, scope="user")
    after = metric("stepup_operator_acts_total", kind="elevations_revoked_by_operator")
    assert after == before + 1


@pytest.mark.parametrize("fault", ["writes", "audit_trail_takes_events", "commits"])
async def test_s13_without_its_event_an_operator_ends_nothing(world, worker, app, fault):
    await worker.elevate(ALICE, app)
    setattr(world.database, fault, False)
    await world.refuses(worker.revoke_for(operator(), "alice"))
    assert (await worker.check(ALICE)).verdict.reason is Reason.ELEVATED


async def test_s7_signing_out_closes_the_wizard_of_the_session(worker):
    await worker.begin(ALICE)
    await worker.begin(ON_PHONE)
    await worker.revoke(ALICE, Scope.SESSION)
    assert (await worker.standing(ALICE)).pending is None
    assert (await worker.standing(ON_PHONE)).pending is not None


async def test_s7_revoking_a_user_closes_the_wizards_of_all_sessions(worker):
    await worker.begin(ALICE)
    await worker.begin(ON_PHONE)
    await worker.revoke(ALICE, Scope.USER)
    assert (await worker.standing(ALICE)).pending is None
    assert (await worker.standing(ON_PHONE)).pending is None


@pytest.mark.parametrize("scope", Scope)
async def test_s10_without_redis_the_revocation_holds_all_the_same(world, worker, app, scope):
    other_worker = await world.worker()
    await worker.elevate(ALICE, app)
    world.elevations.revokes = False
    await worker.revoke(ALICE, scope)
    await other_worker.poll()
    assert (await worker.check(ALICE)).verdict.reason is Reason.NOT_ELEVATED
    assert (await other_worker.check(ALICE)).verdict.reason is Reason.NOT_ELEVATED


async def test_s10_a_revocation_that_redis_did_not_hear_of_is_logged(world, worker):
    world.elevations.revokes = False
    with structlog.testing.capture_logs() as lines:
        await worker.revoke(ALICE)
    assert lines == [
        {
            "event": "revocation_left_to_the_change_feed",
            "change": "SessionRevoked",
            "log_level": "warning",
        }
    ]


@pytest.mark.parametrize("scope", Scope)
async def test_s10_with_a_back_step_the_next_code_elevates_although_it_comes_in_its_time(
    world, scope
):
    """The code before it would still be accepted then, were it not used up."""
    worker = await world.worker(back_steps=1)
    await worker.select(OSQUERY)
    app = await worker.enrol(ALICE)
    await worker.elevate(ALICE, app)
    await worker.revoke(ALICE, scope)
    await worker.advance(seconds=30)
    await worker.elevate(ALICE, app)
    assert (await worker.check(ALICE)).verdict.reason is Reason.ELEVATED


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("microseconds", [0, 1])
async def test_s10_a_revocation_by_a_clock_that_is_behind_ends_at_the_instant_of_the_last_code(
    world, clock, scope, microseconds
):
    worker = await world.worker(back_steps=1)
    await worker.select(OSQUERY)
    app = await worker.enrol(ALICE)
    await worker.advance(seconds=30)
    now = clock.now()
    await worker.verify(ALICE, app.code(now, steps=-1))
    clock.set(now - timedelta(seconds=4))
    await worker.revoke(ALICE, scope)
    clock.set(now + timedelta(microseconds=microseconds))
    assert (await worker.check(ALICE)).verdict.reason is Reason.NOT_ELEVATED
    await worker.elevate(ALICE, app)
    expected = Reason.ELEVATED if microseconds else Reason.NOT_ELEVATED
    assert (await worker.check(ALICE)).verdict.reason is expected


@pytest.mark.parametrize("fault", ["writes", "audit_trail_takes_events", "commits"])
@pytest.mark.parametrize("scope", Scope)
async def test_s13_without_its_event_nothing_is_revoked(world, worker, app, scope, fault):
    await worker.elevate(ALICE, app)
    await worker.begin(ALICE)
    setattr(world.database, fault, False)
    await world.refuses(worker.revoke(ALICE, scope))
    assert (await worker.check(ALICE)).verdict.reason is Reason.ELEVATED


async def test_a_revocation_whose_acknowledgement_was_lost_holds_after_one_poll(world, worker, app):
    await worker.elevate(ALICE, app)
    world.database.acknowledges_commits = False
    with pytest.raises(StoreUnavailableError):
        await worker.revoke(ALICE)
    await worker.poll()
    assert (await worker.check(ALICE)).verdict.reason is Reason.NOT_ELEVATED
