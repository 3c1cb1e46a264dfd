"""Time to enrol (`enroll_by`): who gets it from real facts, and what is recorded."""

from datetime import timedelta

import pytest
from stepup_tests.people import ACME, administrator, person
from stepup_tests.worker import OSQUERY, REMOTE_SHELL, SIGN_IN

from stepup.domain.audit import written
from stepup.domain.decision import Decision, Reason
from stepup.domain.errors import ElevationRequiredError, StoreUnavailableError
from stepup.domain.person import EndedBy, PastAuthenticator
from stepup.domain.policy import EVERY_TIME

ALICE, ROOT = person(), administrator()
OPERATIONS = [OSQUERY, REMOTE_SHELL, SIGN_IN]


@pytest.fixture
async def enroll_by(worker, clock):
    """The end of an hour to enrol; remote shells need a code every time."""
    at = clock.now() + timedelta(hours=1)
    selected = {OSQUERY: timedelta(minutes=5), REMOTE_SHELL: EVERY_TIME}
    await worker.update_policy(ROOT, enabled=True, selected=selected, enroll_by=at)
    return at


async def reasons(worker, actor=ALICE):
    """The reasons for one operation of each kind."""
    return {(await worker.check(actor, operation)).verdict.reason for operation in OPERATIONS}


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_person_in_grace_is_allowed_without_a_receipt(world, worker, enroll_by, operation):
    answer = await worker.check(ALICE, operation)
    assert answer.verdict.decision is Decision.ALLOWED
    assert answer.verdict.reason is Reason.ENROLLMENT_GRACE
    assert (answer.receipt, answer.detail) == (None, None)
    [line] = world.decisions()
    assert (line["decision"], line["reason"]) == ("allowed", "enrollment_grace")
    assert line["enroll_by"] == written(enroll_by)


@pytest.mark.usefixtures("enroll_by")
async def test_the_time_to_enrol_ends_for_every_worker_at_its_instant(world, worker):
    other = await world.worker()
    await worker.advance(minutes=59, seconds=59)
    await other.poll()
    assert await reasons(worker) == await reasons(other) == {Reason.ENROLLMENT_GRACE}
    await worker.advance(seconds=1)
    await other.poll()
    assert await reasons(worker) == await reasons(other) == {Reason.NOT_ENROLLED}


@pytest.mark.usefixtures("enroll_by")
async def test_a_removed_time_to_enrol_ends_with_the_next_poll(world, worker):
    other = await world.worker()
    assert await reasons(other) == {Reason.ENROLLMENT_GRACE}
    await worker.update_policy(ROOT, enroll_by="")
    await other.poll()
    assert await reasons(worker) == await reasons(other) == {Reason.NOT_ENROLLED}


async def removed(worker, app):
    await worker.elevate(ALICE, app)
    await worker.remove(ALICE)


async def reset(worker, app):
    await worker.reset(ALICE, app.reset_code)


async def reset_by_an_administrator(worker, _app):
    await worker.elevate(ROOT, await worker.enrol(ROOT))
    await worker.admin_reset(ROOT, ALICE.user_id)


async def removed_by_hand(worker, _app):
    """Past the service: the user's toggle, which outlives the authenticator, is the only trace."""
    async with worker.database.transaction() as records:
        await records.authenticators.remove(await records.authenticators.find(ACME, ALICE.user_id))


@pytest.mark.usefixtures("enroll_by")
@pytest.mark.parametrize("end", [removed, reset, reset_by_an_administrator, removed_by_hand])
async def test_the_end_of_an_authenticator_ends_the_time_to_enrol(worker, end):
    app = await worker.enrol(ALICE)
    assert Reason.ENROLLMENT_GRACE not in await reasons(worker)
    await end(worker, app)
    assert await reasons(worker) == {Reason.NOT_ENROLLED}


@pytest.mark.usefixtures("enroll_by")
@pytest.mark.parametrize("by", EndedBy)
async def test_a_forgotten_user_has_no_time_to_enrol(worker, clock, by):
    """Only the end of what was known of the user is left."""
    assert await reasons(worker) == {Reason.ENROLLMENT_GRACE}
    async with worker.database.transaction() as records:
        past = PastAuthenticator(clock.now(), by)
        await records.past.remember(ACME, ALICE.user_id, past)
    assert await reasons(worker) == {Reason.NOT_ENROLLED}


@pytest.mark.usefixtures("enroll_by")
async def test_an_enrolled_user_without_a_toggle_has_no_time_to_enrol_afterwards(world, worker):
    """A server of a release without toggles has enrolled the user."""
    app = await worker.enrol(ALICE)
    world.sql("DELETE FROM accounts")
    await worker.elevate(ALICE, app)
    await worker.remove(ALICE)
    assert await reasons(worker) == {Reason.NOT_ENROLLED}


@pytest.mark.usefixtures("enroll_by")
async def test_the_authenticator_of_another_tenant_or_user_does_not_count(worker):
    await worker.enrol(person(tenant="globex"))
    await worker.enrol(person("bob"))
    assert await reasons(worker) == {Reason.ENROLLMENT_GRACE}


@pytest.mark.usefixtures("enroll_by")
async def test_an_open_wizard_leaves_the_time_to_enrol(worker):
    await worker.begin(ALICE)
    assert await reasons(worker) == {Reason.ENROLLMENT_GRACE}


@pytest.mark.usefixtures("enroll_by")
async def test_the_time_to_enrol_is_no_elevation(world, worker):
    """An administrator in grace weakens nothing, and resets nobody."""
    assert (await worker.check(ROOT)).verdict.decision is Decision.ALLOWED
    await world.refuses(worker.update_policy(ROOT, enabled=False), ElevationRequiredError)
    await world.refuses(worker.admin_reset(ROOT, ALICE.user_id), ElevationRequiredError)


@pytest.mark.usefixtures("enroll_by")
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_s17_without_sql_nobody_is_taken_for_new(world, worker, operation):
    await worker.check(ALICE)
    decided = len(world.decisions())
    world.database.reads = False
    with pytest.raises(StoreUnavailableError):
        await worker.check(ALICE, operation)
    assert len(world.decisions()) == decided


@pytest.mark.usefixtures("enroll_by")
async def test_a_policy_of_a_server_of_the_release_before_keeps_its_time_to_enrol(worker, world):
    """That server changes neither `enroll_by` nor `enabled_at`: the 30 days do not begin anew."""
    before = await worker.policy()
    world.sql("UPDATE policies SET enabled = 0, version = version + 1")
    world.sql("UPDATE policies SET enabled = 1, version = version + 1")
    after = await worker.policy()
    assert (after.enroll_by, after.enabled_at) == (before.enroll_by, before.enabled_at)


async def test_a_challenge_names_no_action_of_a_person_in_grace_as_needed(worker, enroll_by):
    created = await worker.create(ALICE, (REMOTE_SHELL, "host-1"), (OSQUERY, "host-1"))
    assert [item.needed for item in created.items] == [False, False]
    await worker.advance(minutes=60)
    created = await worker.create(ALICE, (REMOTE_SHELL, "host-1"), (OSQUERY, "host-1"))
    assert [item.needed for item in created.items] == [True, True]
    assert enroll_by == worker.clock.now()
