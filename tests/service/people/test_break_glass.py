"""`stepup break-glass`: an administrator's reset, on record with the machine and its user."""

import pytest
from stepup_tests.keys import fresh_ring
from stepup_tests.metrics import metric
from stepup_tests.people import ACME, administrator, person
from stepup_tests.worker import OSQUERY

from stepup.domain.actor import UserId
from stepup.domain.audit import EventKind
from stepup.domain.challenge import ChallengeState
from stepup.domain.decision import Reason
from stepup.domain.person import EndedBy, PastAuthenticator
from stepup.service.ports import SealBrokenError

ROOT = administrator()
GAUGE = "stepup_break_glass_last_used_timestamp_seconds"


async def test_s10_the_authenticator_ends_with_all_that_depends_on_it(worker):
    await worker.select(OSQUERY)
    app = await worker.enrol(ROOT)
    await worker.elevate(ROOT, app)
    challenge_id = await worker.challenge(ROOT)
    await worker.begin(ROOT)
    assert (await worker.check(ROOT)).verdict.reason is Reason.ELEVATED
    assert await worker.break_glass("root")
    await worker.poll()
    assert (await worker.check(ROOT)).verdict.reason is Reason.NOT_ENROLLED
    assert (await worker.read(ROOT, challenge_id)).challenge.stored_state is ChallengeState.REVOKED
    standing = await worker.standing(ROOT)
    assert (standing.active, standing.pending) == (None, None)
    assert not standing.account_mfa_enabled
    await worker.wizard(ROOT)


async def test_s13_the_events_name_the_user_and_the_host_of_the_machine(worker):
    app = await worker.enrol(ROOT)
    await worker.break_glass("root")
    reset, toggle = (await worker.events())[-2:]
    machine = {"os_user": "sam", "host": "host-1"}
    assert reset.kind is EventKind.AUTHENTICATOR_RESET_BY_BREAK_GLASS
    assert reset.details == {**machine, "enrollment_id": app.enrollment_id, "reason": "lost phone"}
    assert toggle.details == {**machine, "enabled": False, "cause": reset.kind.value}
    for event in (reset, toggle):
        assert (event.caller, event.actor_user_id, event.subject_user_id) == (
            "break-glass",
            None,
            "root",
        )


@pytest.mark.parametrize("fault", ["audit_trail_takes_events", "commits"])
async def test_s13_without_its_events_nothing_is_changed(world, worker, fault):
    await worker.enrol(ROOT)
    setattr(world.database, fault, False)
    await world.refuses(worker.break_glass("root"))


async def test_the_end_is_remembered_with_its_authority(world, worker):
    await worker.enrol(ROOT)
    await worker.break_glass("root")
    async with world.database.snapshot() as records:
        past = await records.past.find(ACME, UserId("root"))
    assert past == PastAuthenticator(world.clock.now(), EndedBy.BREAK_GLASS)


async def test_a_user_without_an_authenticator_changes_nothing(world, worker):
    await worker.begin(ROOT)
    before = await world.state()
    assert not await worker.break_glass("root")
    assert await world.state() == before


async def test_other_users_keep_theirs(worker):
    await worker.enrol(ROOT)
    await worker.enrol(person("alice"))
    await worker.break_glass("root")
    assert (await worker.standing(person("alice"))).active is not None


async def test_s6_without_the_key_ring_nothing_is_changed(world, worker):
    await worker.enrol(ROOT)
    await world.refuses(worker.break_glass("root", keys=fresh_ring()), SealBrokenError)


async def test_housekeeping_shows_when_break_glass_was_last_used(world, worker):
    await worker.keep_house()
    assert metric(GAUGE) == 0
    await worker.enrol(ROOT)
    await worker.break_glass("root")
    used_at = world.clock.now()
    await worker.advance(minutes=1)
    await worker.keep_house()
    assert metric(GAUGE) == used_at.timestamp()
