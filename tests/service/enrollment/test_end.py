"""How an authenticator ends: removed, reset by its code, reset by an administrator or operator."""

from datetime import timedelta

import pytest
from stepup_tests.metrics import metric
from stepup_tests.people import administrator, operator, person
from stepup_tests.worker import OSQUERY, details_of

from stepup.domain.audit import EventKind, written
from stepup.domain.authenticator import Attempt
from stepup.domain.decision import Reason
from stepup.domain.elevation import Outcome
from stepup.domain.errors import (
    ElevationRequiredError,
    EnrollmentFault,
    EnrollmentStateError,
    NotForOneselfError,
    RoleRequiredError,
)
from stepup.domain.person import EndedBy, PastAuthenticator
from stepup.domain.reset_code import ResetCode
from stepup.service.enrollment.reset_codes import ResetAttempt

ALICE = person()
ON_PHONE = person(session="phone")
ROOT = administrator()
OLGA = operator()
WRONG = ResetCode(bytes(16))
FAULTS = ["writes", "audit_trail_takes_events", "commits"]


@pytest.fixture
async def app(worker):
    await worker.select(OSQUERY)
    return await worker.enrol(ALICE)


async def test_an_elevated_user_removes_the_own_authenticator(worker, app):
    await worker.elevate(ALICE, app)
    await worker.remove(ALICE)
    assert (await worker.standing(ALICE)).active is None
    assert (await worker.verify(ALICE, "123456")).outcome is Outcome.NOT_ENROLLED


@pytest.mark.usefixtures("app")
async def test_removing_needs_an_elevation(world, worker):
    await world.refuses(worker.remove(ALICE), ElevationRequiredError)


async def test_removing_again_changes_nothing(world, worker, app):
    """The answer to the first call may have been lost."""
    await worker.elevate(ALICE, app)
    await worker.remove(ALICE)
    await worker.begin(ALICE)
    before = await world.state()
    await worker.remove(ALICE)
    assert await world.state() == before


async def test_of_two_removals_at_once_the_later_changes_nothing(world, worker, app):
    other_worker = await world.worker()
    await worker.elevate(ALICE, app)

    async def remove_it():
        await other_worker.remove(ALICE)

    world.database.before_transaction = remove_it
    await worker.remove(ALICE)
    assert len(await worker.events(EventKind.AUTHENTICATOR_REMOVED)) == 1


async def test_removing_needs_an_elevation_by_the_authenticator_that_is_removed(world, worker, app):
    """It may be replaced after the elevation was looked up."""
    other_worker = await world.worker()
    await worker.elevate(ALICE, app)

    async def replace_it():
        await other_worker.wizard(ON_PHONE, app.reset_code)

    world.database.before_transaction = replace_it
    with pytest.raises(ElevationRequiredError):
        await worker.remove(ALICE)
    assert (await worker.standing(ALICE)).active.enrollment_id != app.enrollment_id


async def test_s10_removing_ends_the_elevations_of_all_sessions(worker, app):
    await worker.elevate(ON_PHONE, app)
    await worker.advance(seconds=30)
    await worker.elevate(ALICE, app)
    await worker.remove(ALICE)
    assert (await worker.check(ON_PHONE)).verdict.reason is Reason.NOT_ENROLLED


async def test_s7_removing_closes_the_wizards_of_all_sessions(worker, app):
    await worker.begin(ON_PHONE, app.reset_code)
    await worker.elevate(ALICE, app)
    await worker.remove(ALICE)
    assert (await worker.standing(ON_PHONE)).pending is None


async def test_the_reset_code_goes_with_the_authenticator(worker, app):
    await worker.elevate(ALICE, app)
    await worker.remove(ALICE)
    with pytest.raises(EnrollmentStateError):
        await worker.reset(ALICE, app.reset_code)


ENDS = [
    (lambda worker, _: worker.remove(ALICE), "alice", EventKind.AUTHENTICATOR_REMOVED),
    (
        lambda worker, app: worker.reset(ALICE, app.reset_code),
        "alice",
        EventKind.AUTHENTICATOR_RESET,
    ),
    (
        lambda worker, _: worker.admin_reset(ROOT, "alice"),
        "root",
        EventKind.AUTHENTICATOR_RESET_BY_ADMINISTRATOR,
    ),
    (
        lambda worker, _: worker.admin_reset(OLGA, "alice"),
        None,
        EventKind.AUTHENTICATOR_RESET_BY_OPERATOR,
    ),
]


@pytest.fixture
async def elevated(worker, app):
    """Alice and the administrator."""
    await worker.elevate(ALICE, app)
    await worker.elevate(ROOT, await worker.enrol(ROOT))


@pytest.mark.usefixtures("elevated")
@pytest.mark.parametrize("end", [end for end, *_ in ENDS])
@pytest.mark.parametrize("fault", FAULTS)
async def test_s13_without_its_event_nothing_is_removed(world, worker, app, end, fault):
    setattr(world.database, fault, False)
    await world.refuses(end(worker, app))


@pytest.mark.usefixtures("elevated")
@pytest.mark.parametrize("end", [ENDS[0][0], ENDS[2][0]], ids=["user", "administrator"])
async def test_s17_without_redis_nothing_is_removed(world, worker, app, end):
    world.elevations.finds = False
    await world.refuses(end(worker, app))


async def test_s10_a_removal_that_redis_does_not_hear_of_holds(world, worker, app):
    await worker.elevate(ALICE, app)
    world.elevations.revokes = False
    await worker.remove(ALICE)
    assert (await worker.check(ALICE)).verdict.reason is Reason.NOT_ENROLLED


async def test_resetting_needs_no_elevation_and_not_even_redis(world, worker, app):
    world.elevations.finds = world.elevations.revokes = False
    assert (await worker.reset(ALICE, app.reset_code)).is_accepted


async def test_s8_a_reset_code_works_once(worker, app):
    await worker.reset(ALICE, app.reset_code)
    with pytest.raises(EnrollmentStateError, match="was removed or reset before") as refused:
        await worker.reset(ALICE, app.reset_code)
    assert refused.value.fault is EnrollmentFault.NO_AUTHENTICATOR


async def test_s8_the_reset_code_of_an_earlier_authenticator_is_wrong(worker, app):
    await worker.reset(ALICE, app.reset_code)
    await worker.enrol(ALICE)
    assert (await worker.reset(ALICE, app.reset_code)).outcome is Attempt.WRONG


@pytest.mark.usefixtures("app")
async def test_s8_the_reset_code_of_another_user_is_wrong(worker):
    bobs = await worker.enrol(person("bob"))
    assert (await worker.reset(ALICE, bobs.reset_code)).outcome is Attempt.WRONG


@pytest.mark.usefixtures("app")
async def test_a_wrong_reset_code_removes_nothing(worker):
    attempt = await worker.reset(ALICE, WRONG)
    assert attempt == ResetAttempt(Attempt.WRONG, 9, timedelta())
    assert (await worker.standing(ALICE)).active is not None


async def test_s8_ten_wrong_reset_codes_make_the_session_wait(worker, app):
    for _ in range(10):
        wrong = await worker.reset(ALICE, WRONG)
    right = await worker.reset(ALICE, app.reset_code)
    assert wrong == ResetAttempt(Attempt.WRONG, 0, timedelta(minutes=15))
    assert right == ResetAttempt(Attempt.THROTTLED, 0, timedelta(minutes=15))


async def test_s8_what_is_not_looked_at_changes_nothing(world, worker, app):
    for _ in range(10):
        await worker.reset(ALICE, WRONG)
    await worker.reset(ALICE, app.reset_code)  # on record
    before = await world.state()
    await worker.reset(ALICE, app.reset_code)
    assert await world.state() == before


async def test_s5_locked_codes_do_not_lock_the_reset_code(worker, app):
    await worker.fail(ALICE, app, times=5)
    assert (await worker.reset(ALICE, app.reset_code)).is_accepted


async def test_s5_a_locked_reset_code_does_not_lock_the_codes(worker, app):
    for _ in range(10):
        await worker.reset(ALICE, WRONG)
    await worker.elevate(ALICE, app)


async def test_s4_a_suspended_authenticator_is_reset_by_its_code(worker, app):
    await worker.suspend(app)
    await worker.reset(ALICE, app.reset_code)
    new = await worker.enrol(ALICE)
    await worker.elevate(ALICE, new)


async def test_s4_s5_no_session_keeps_another_one_from_the_reset_code(worker, app):
    for _ in range(10):
        await worker.reset(ALICE, WRONG)
    assert (await worker.reset(ON_PHONE, app.reset_code)).is_accepted


async def test_s4_nothing_suspends_the_reset_code(worker, app):
    for _ in range(110):
        attempt = await worker.reset(ALICE, WRONG)
        await worker.advance(seconds=attempt.retry_after.total_seconds())
    assert (await worker.reset(ALICE, app.reset_code)).is_accepted


@pytest.mark.usefixtures("app")
async def test_s4_of_refused_reset_codes_one_a_minute_is_on_record(worker):
    for _ in range(15):
        await worker.reset(ALICE, WRONG)
    [refused] = await worker.events(EventKind.ATTEMPTS_REFUSED)
    assert refused.details["codes"] == "reset"
    assert refused.details["cause"] == "throttled"


@pytest.mark.usefixtures("app")
async def test_a_wrong_reset_code_is_one_event_with_its_lock(worker, clock):
    for _ in range(10):
        await worker.reset(ALICE, WRONG)
    rejected = await worker.events(EventKind.RESET_CODE_REJECTED)
    assert len(rejected) == 10
    assert [event.details["locked_until"] for event in rejected[-2:]] == [
        None,
        written(clock.now() + timedelta(minutes=15)),
    ]


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize("fault", FAULTS)
async def test_s3_a_wrong_reset_code_is_not_answered_unless_it_counts(world, worker, fault):
    setattr(world.database, fault, False)
    await world.refuses(worker.reset(ALICE, WRONG))


async def test_an_authenticator_without_a_reset_code_cannot_be_reset(world, worker, app):
    world.sql("DELETE FROM reset_codes")
    with pytest.raises(EnrollmentStateError, match="a Master Administrator") as refused:
        await worker.reset(ALICE, app.reset_code)
    assert refused.value.fault is EnrollmentFault.NO_RESET_CODE


async def test_s7_resetting_closes_the_wizards_that_the_reset_code_permitted(worker, app):
    await worker.begin(ON_PHONE, app.reset_code)
    await worker.reset(ALICE, app.reset_code)
    assert (await worker.standing(ON_PHONE)).pending is None


@pytest.mark.usefixtures("app")
async def test_an_administrator_needs_an_elevation(world, worker):
    await worker.enrol(ROOT)
    await world.refuses(worker.admin_reset(ROOT, "alice"), ElevationRequiredError)


@pytest.mark.usefixtures("app")
async def test_another_role_removes_nothing_even_elevated(world, worker):
    bob = person("bob")
    await worker.elevate(bob, await worker.enrol(bob))
    await world.refuses(worker.admin_reset(bob, "alice"), RoleRequiredError)


@pytest.mark.usefixtures("elevated")
async def test_an_administrator_does_not_reset_their_own_authenticator(world, worker):
    await world.refuses(worker.admin_reset(ROOT, "root"), NotForOneselfError)


@pytest.mark.usefixtures("elevated")
async def test_where_the_user_has_none_there_is_nothing_to_reset(world, worker):
    await world.refuses(worker.admin_reset(ROOT, "nobody"), EnrollmentStateError)


@pytest.mark.usefixtures("elevated")
async def test_an_administrator_resets_nobody_of_another_tenant(worker):
    elsewhere = person("carol", tenant="globex")
    await worker.enrol(elsewhere)
    with pytest.raises(EnrollmentStateError):
        await worker.admin_reset(ROOT, "carol")
    assert (await worker.standing(elsewhere)).active is not None


async def test_s10_a_reset_by_an_administrator_ends_the_users_elevations(worker, app):
    await worker.elevate(ALICE, app)
    await worker.elevate(ROOT, await worker.enrol(ROOT))
    await worker.admin_reset(ROOT, "alice")
    assert (await worker.check(ALICE)).verdict.reason is Reason.NOT_ENROLLED


@pytest.mark.usefixtures("elevated")
async def test_the_administrators_own_elevation_goes_on(worker):
    await worker.admin_reset(ROOT, "alice")
    assert (await worker.check(ROOT)).verdict.reason is Reason.ELEVATED


@pytest.mark.usefixtures("elevated")
async def test_s13_the_event_has_the_administrator_the_user_and_the_reason(worker, app):
    before = len(await worker.events())
    await worker.admin_reset(ROOT, "alice", reason="lost phone, ticket 4711")
    [event, _] = (await worker.events())[before:]
    assert event.kind is EventKind.AUTHENTICATOR_RESET_BY_ADMINISTRATOR
    assert (event.actor_user_id, event.subject_user_id) == ("root", "alice")
    assert event.details == details_of(
        ROOT,
        enrollment_id=app.enrollment_id,
        reason="lost phone, ticket 4711",
    )


@pytest.mark.usefixtures("app")
async def test_an_operator_needs_no_elevation_and_not_even_redis(world, worker):
    world.elevations.finds = world.elevations.revokes = False
    before = metric("stepup_operator_acts_total", kind="authenticator_reset_by_operator")
    await worker.admin_reset(OLGA, "alice")
    after = metric("stepup_operator_acts_total", kind="authenticator_reset_by_operator")
    assert (await worker.standing(ALICE)).active is None
    assert after == before + 1


async def test_s16_an_operator_learns_from_no_refusal_without_a_trace(worker):
    with pytest.raises(EnrollmentStateError):
        await worker.admin_reset(OLGA, "bob")
    [read] = await worker.events()
    assert (read.kind, read.subject_user_id) == (EventKind.OPERATOR_READ, "bob")
    assert read.details == details_of(OLGA, method="EnrollmentService/AdminResetEnrollment")


async def test_s13_the_event_names_the_operator_and_has_no_actor(worker, app):
    await worker.admin_reset(OLGA, "alice")
    event, _ = (await worker.events())[-2:]
    assert (event.actor_user_id, event.subject_user_id) == (None, "alice")
    assert event.details == details_of(OLGA, enrollment_id=app.enrollment_id)


@pytest.mark.usefixtures("elevated")
@pytest.mark.parametrize(("actor", "by"), [(ROOT, EndedBy.ADMINISTRATOR), (OLGA, EndedBy.OPERATOR)])
async def test_that_others_ended_the_authenticator_is_remembered(world, worker, clock, actor, by):
    await worker.admin_reset(actor, "alice")
    async with world.database.snapshot() as records:
        past = await records.past.find(ALICE.tenant_id, ALICE.user_id)
    assert past == PastAuthenticator(clock.now(), by)


@pytest.mark.parametrize("end", [ENDS[0][0], ENDS[1][0]], ids=["user", "reset code"])
@pytest.mark.usefixtures("elevated")
async def test_that_the_user_ended_it_is_not(world, worker, app, end):
    await end(worker, app)
    async with world.database.snapshot() as records:
        assert await records.past.find(ALICE.tenant_id, ALICE.user_id) is None


@pytest.mark.usefixtures("elevated")
@pytest.mark.parametrize(("end", "by", "kind"), ENDS)
async def test_s13_the_end_of_the_authenticator_turns_the_accounts_mfa_off(
    worker, app, end, by, kind
):
    await end(worker, app)
    assert not (await worker.standing(ALICE)).account_mfa_enabled
    ended, turned = (await worker.events())[-2:]
    assert (ended.kind, turned.kind) == (kind, EventKind.ACCOUNT_MFA_CHANGED)
    assert ended.details["enrollment_id"] == app.enrollment_id
    assert (turned.actor_user_id, turned.subject_user_id) == (by, "alice")
    assert (turned.details["enabled"], turned.details["cause"]) == (False, kind.value)


async def test_the_end_of_an_authenticator_is_no_event_of_a_toggle_that_is_off(world, worker, app):
    """An account that enrolled with an earlier version and never turned its MFA on."""
    world.sql("DELETE FROM accounts")
    await worker.reset(ALICE, app.reset_code)
    assert (await worker.events())[-1].kind is EventKind.AUTHENTICATOR_RESET
