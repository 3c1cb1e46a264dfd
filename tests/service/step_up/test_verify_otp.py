"""`VerifyOtp`: what one code does, and what it does not."""

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

import pytest
from stepup_tests.keys import fresh_ring
from stepup_tests.metrics import metric
from stepup_tests.people import ACME, CALLER, person
from stepup_tests.worker import OSQUERY, details_of

from stepup.domain.audit import EventKind, written
from stepup.domain.decision import Decision, Reason
from stepup.domain.elevation import Outcome, Verification
from stepup.domain.errors import InvalidFieldError, RequestUnderWayError, StoreUnavailableError
from stepup.domain.totp import OtpCode
from stepup.service.ports import SealBrokenError
from stepup.service.step_up.codes import OneTimeCodes
from stepup.service.step_up.revocation import Scope
from stepup.service.step_up.verify_otp import VerifyOtp

ALICE = person()
REQUEST = UUID("6f2c1f3e-0000-4000-8000-000000000001")


@pytest.fixture
async def app(worker):
    await worker.select(OSQUERY)
    return await worker.enrol(ALICE)


async def test_a_right_code_elevates_the_session_for_fifteen_minutes(worker, clock, app):
    verification = await worker.verify(ALICE, app.code(clock.now()))
    assert verification.outcome is Outcome.VERIFIED
    assert verification.elevation.verified_at == clock.now()
    assert verification.elevation.expires_at == clock.now() + timedelta(minutes=15)
    assert (await worker.check(ALICE)).verdict.reason is Reason.ELEVATED


async def test_s9_the_elevation_names_tenant_user_session_and_enrollment(worker, app):
    elevation = await worker.elevate(ALICE, app)
    assert elevation.tenant_id == "acme"
    assert elevation.user_id == "alice"
    assert elevation.session_hash == ALICE.session_hash
    assert elevation.enrollment_id == app.enrollment_id


@pytest.mark.usefixtures("clock")
async def test_a_new_code_replaces_the_elevation_with_fresh_fifteen_minutes(worker, app):
    await worker.elevate(ALICE, app)
    await worker.advance(minutes=10)
    await worker.elevate(ALICE, app)
    await worker.advance(minutes=10)
    assert (await worker.check(ALICE)).verdict.reason is Reason.ELEVATED


@pytest.mark.parametrize("steps", [-1, 1])
async def test_s1_a_code_of_a_neighbouring_step_is_rejected(worker, clock, app, steps):
    await worker.advance(minutes=1)
    verification = await worker.verify(ALICE, app.code(clock.now(), steps=steps))
    assert verification.outcome is Outcome.REJECTED


@pytest.mark.parametrize(("steps", "step"), [(-1, "before"), (1, "after")])
async def test_s1_a_near_miss_is_counted(worker, clock, app, steps, step):
    await worker.advance(minutes=1)
    before = metric("stepup_near_misses_total", step=step)
    await worker.verify(ALICE, app.code(clock.now(), steps=steps))
    await worker.verify(ALICE, app.wrong_code(clock.now()))
    await worker.elevate(ALICE, app)
    assert metric("stepup_near_misses_total", step=step) == before + 1


@pytest.mark.parametrize("steps", [-1, 1])
async def test_s1_the_audit_event_tells_a_near_miss(worker, clock, app, steps):
    await worker.advance(minutes=1)
    await worker.verify(ALICE, app.code(clock.now(), steps=steps))
    [event] = await worker.events(EventKind.OTP_REJECTED)
    assert event.details["near_miss"] == steps


async def test_s1_a_deployment_may_accept_the_step_before(world, clock):
    worker = await world.worker(back_steps=1)
    app = await worker.enrol(ALICE)
    await worker.advance(seconds=30)
    verification = await worker.verify(ALICE, app.code(clock.now(), steps=-1))
    assert verification.outcome is Outcome.VERIFIED


async def test_s2_a_code_is_accepted_once(worker, clock, app):
    code = app.code(clock.now())
    await worker.verify(ALICE, code)
    assert (await worker.verify(ALICE, code)).outcome is Outcome.REJECTED


async def test_s2_a_code_is_accepted_once_across_sessions_and_workers(world, worker, clock, app):
    code = app.code(clock.now())
    await worker.verify(ALICE, code)
    other_worker = await world.worker()
    again = await other_worker.verify(person(session="phone"), code)
    assert again.outcome is Outcome.REJECTED


async def test_s2_an_older_code_is_not_accepted_after_a_newer_one(world, clock):
    worker = await world.worker(back_steps=1)
    app = await worker.enrol(ALICE)
    await worker.advance(seconds=30)
    await worker.verify(ALICE, app.code(clock.now()))
    older = await worker.verify(ALICE, app.code(clock.now(), steps=-1))
    assert older.outcome is Outcome.REJECTED


async def test_s2_a_step_stays_used_up_when_the_clock_is_set_back(worker, clock, app):
    before = clock.now()
    code = app.code(before)
    await worker.advance(minutes=2)
    await worker.elevate(ALICE, app)
    clock.set(before)
    assert (await worker.verify(ALICE, code)).outcome is Outcome.REJECTED


async def test_s2_a_code_replayed_by_another_session_looks_like_a_wrong_one(worker, clock, app):
    code = app.code(clock.now())
    await worker.verify(ALICE, code)
    replayed = await worker.verify(person(session="phone"), code)
    assert replayed == Verification(Outcome.REJECTED, attempts_remaining=4)


async def test_s22_the_audit_event_tells_all_kinds_of_refused_codes_apart(worker, clock, app):
    code = app.code(clock.now())
    await worker.verify(ALICE, code)
    await worker.verify(ALICE, code)
    await worker.verify(person(session="phone"), code)
    await worker.verify(ALICE, app.code(clock.now(), steps=-1))
    await worker.verify(ALICE, app.code(clock.now(), steps=1))
    await worker.fail(ALICE, app)
    rejected = await worker.events(EventKind.OTP_REJECTED)
    assert [
        (event.details["cause"], event.details["near_miss"], event.details["failures_in_a_row"])
        for event in rejected
    ] == [
        ("repeated", 0, 0),
        ("replayed", 0, 1),
        ("late", -1, 1),
        ("early", 1, 2),
        ("wrong", 0, 3),
    ]


async def test_s22_the_own_code_again_changes_nothing_and_says_when_the_next_begins(
    worker, clock, app
):
    code = app.code(clock.now())
    elevation = (await worker.verify(ALICE, code)).elevation
    clock.advance(seconds=5)
    expected = Verification(
        Outcome.REJECTED, attempts_remaining=5, next_code_after=timedelta(seconds=20)
    )
    assert [await worker.verify(ALICE, code) for _ in range(30)] == 30 * [expected]
    assert (await worker.check(ALICE)).verdict.elevation == elevation


async def test_s22_the_own_code_again_is_repeated_however_late_it_comes(world, worker, clock, app):
    code = app.code(clock.now())
    await worker.verify(ALICE, code)
    await worker.advance(minutes=20)
    again = await (await world.worker()).verify(ALICE, code)
    assert (again.outcome, again.attempts_remaining) == (Outcome.REJECTED, 5)
    assert again.next_code_after == timedelta(seconds=25)


async def test_s22_the_confirming_code_again_is_repeated_in_the_session_of_the_wizard(
    worker, clock
):
    app = await worker.wizard(ALICE)
    code = app.code(clock.now())
    again = await worker.verify(ALICE, code)
    assert (again.attempts_remaining, bool(again.next_code_after)) == (5, True)
    elsewhere = await worker.verify(person(session="phone"), code)
    assert (elsewhere.attempts_remaining, bool(elsewhere.next_code_after)) == (4, False)


@pytest.mark.parametrize("back_steps", [0, 1])
async def test_s22_a_code_that_is_a_step_late_counts_nowhere(world, clock, back_steps):
    worker = await world.worker(back_steps=back_steps)
    app = await worker.enrol(ALICE)
    await worker.advance(minutes=5, seconds=10)
    late = app.code(clock.now(), steps=-1 - back_steps)
    for session in ("desk", "phone"):
        assert await worker.verify(person(session=session), late) == Verification(
            Outcome.REJECTED, attempts_remaining=5, next_code_after=timedelta(seconds=15)
        )
    later_still = await worker.verify(ALICE, app.code(clock.now(), steps=-2 - back_steps))
    assert later_still == Verification(Outcome.REJECTED, attempts_remaining=4)


async def test_s22_an_early_code_says_nothing_and_counts_until_the_right_one(worker, clock, app):
    early = await worker.verify(ALICE, app.code(clock.now(), steps=1))
    assert early == Verification(Outcome.REJECTED, attempts_remaining=4)
    for _ in range(25):
        await worker.verify(ALICE, app.code(clock.now(), steps=1))
        await worker.elevate(ALICE, app)
        await worker.advance(minutes=1)
    assert (await worker.fail(ALICE, app)).attempts_remaining == 4


@pytest.mark.parametrize("back_steps", [0, 1])
async def test_s22_no_answer_tells_an_early_code_from_a_wrong_one_in_its_time(
    world, clock, back_steps
):
    """A stolen session guesses, and its owner's right code of the same 30 seconds forgives."""
    worker = await world.worker(back_steps=back_steps)
    answers = []
    for name in ("alice", "bob"):
        owner, thief = person(name), person(name, session="stolen")
        app = await worker.enrol(owner)
        await worker.fail(thief, app, times=4)
        await worker.elevate(owner, app)
        await worker.advance(seconds=30)
        await worker.fail(thief, app, times=3)
        early = app.code(clock.now(), steps=1)
        guess = early if name == "alice" else app.wrong_code(clock.now())
        answers.append([await worker.verify(thief, guess)])
        await worker.elevate(owner, app)
        answers[-1].append(await worker.fail(thief, app))
        await worker.advance(seconds=30)
    assert answers[0] == answers[1]
    assert answers[0][1].attempts_remaining == 1


async def test_s22_of_codes_that_count_nowhere_one_in_a_step_is_on_record(
    world, worker, clock, app
):
    code = app.code(clock.now())
    await worker.verify(ALICE, code)
    for _ in range(2):
        await worker.verify(ALICE, code)
        await worker.verify(ALICE, app.code(clock.now(), steps=-1))
    before = await world.state()
    for session in ("desk", "phone"):
        await worker.verify(person(session=session), app.code(clock.now(), steps=-1))
    await (await world.worker()).verify(ALICE, code)
    assert await world.state() == before
    await worker.advance(seconds=30)
    await worker.verify(ALICE, code)
    rejected = await worker.events(EventKind.OTP_REJECTED)
    assert [event.details["cause"] for event in rejected] == ["repeated", "late", "repeated"]


async def test_s22_a_double_click_that_comes_in_parallel_is_one_attempt(worker, clock, app):
    code = app.code(clock.now())
    results = await asyncio.gather(*(worker.verify(ALICE, code) for _ in range(4)))
    assert [each.outcome for each in results].count(Outcome.VERIFIED) == 1
    assert (await worker.fail(ALICE, app)).attempts_remaining == 4


async def test_s22_the_same_request_again_gets_the_recorded_next_code(worker, clock, app):
    await worker.advance(seconds=10)
    late = app.code(clock.now(), steps=-1)
    first = await worker.verify(ALICE, late, REQUEST)
    assert first.next_code_after == timedelta(seconds=15)
    assert await worker.verify(ALICE, late, REQUEST) == first


@pytest.mark.parametrize("fault", ["writes", "audit_trail_takes_events", "commits"])
async def test_s3_no_repeated_code_is_answered_before_it_is_on_record(
    world, worker, clock, app, fault
):
    await worker.elevate(ALICE, app)
    setattr(world.database, fault, False)
    with pytest.raises(StoreUnavailableError):
        await worker.verify(ALICE, app.code(clock.now()))


async def test_s4_the_fifth_wrong_code_locks_for_fifteen_minutes(worker, app):
    verification = await worker.fail(ALICE, app, times=5)
    assert verification == Verification(Outcome.REJECTED, retry_after=timedelta(minutes=15))


async def test_s4_a_right_code_is_not_looked_at_while_locked(worker, clock, app):
    await worker.fail(ALICE, app, times=5)
    await worker.advance(minutes=14)
    verification = await worker.verify(ALICE, app.code(clock.now()))
    assert verification == Verification(Outcome.THROTTLED, retry_after=timedelta(minutes=1))


async def test_s4_what_is_not_looked_at_changes_nothing(world, worker, clock, app):
    await worker.fail(ALICE, app, times=6)  # of which the last one is on record as refused
    before = await world.state()
    await worker.verify(ALICE, app.code(clock.now()))
    assert await world.state() == before


async def test_s4_a_code_that_was_not_looked_at_is_not_used_up(worker, clock, app):
    await worker.fail(ALICE, app, times=5)
    await worker.advance(minutes=15, seconds=-1)
    code = app.code(clock.now() + timedelta(seconds=1))
    await worker.verify(ALICE, code)
    await worker.advance(seconds=1)
    assert (await worker.verify(ALICE, code)).outcome is Outcome.VERIFIED


async def test_s4_the_lock_holds_across_sessions_callers_and_workers(world, worker, clock, app):
    await worker.fail(ALICE, app, times=5)
    other_worker = await world.worker()
    other_session = person(session="phone")
    verification = await other_worker.verify(other_session, app.code(clock.now()), caller="console")
    assert verification.outcome is Outcome.THROTTLED


async def test_s4_a_new_sign_in_resets_no_failures(worker, app):
    await worker.fail(person(session="before"), app, times=4)
    after = await worker.fail(person(session="after"), app)
    assert after.retry_after == timedelta(minutes=15)


@pytest.mark.parametrize("other", [person("bob"), person(tenant="globex")], ids=["user", "tenant"])
async def test_s4_nobody_else_is_locked(worker, clock, app, other):
    theirs = await worker.enrol(other)
    await worker.fail(ALICE, app, times=5)
    assert (await worker.verify(other, theirs.code(clock.now()))).outcome is Outcome.VERIFIED


async def test_s4_the_locks_grow(worker, app):
    locks = []
    for session in ("one", "two", "three"):
        failed = await worker.fail(person(session=session), app, times=5)
        locks.append(failed.retry_after)
        await worker.advance(seconds=locks[-1].total_seconds())
    assert locks == [timedelta(minutes=15), timedelta(minutes=30), timedelta(minutes=60)]


async def test_s4_the_audit_event_has_the_lock(worker, clock, app):
    await worker.fail(ALICE, app, times=5)
    fourth, fifth = (await worker.events(EventKind.OTP_REJECTED))[-2:]
    assert fourth.details["locked_until"] is None
    assert fifth.details["locked_until"] == written(clock.now() + timedelta(minutes=15))


async def test_s4_a_hundred_wrong_codes_in_a_row_suspend(worker, clock, app):
    await worker.suspend(app)
    await worker.advance(minutes=60 * 24)
    assert (await worker.verify(ALICE, app.code(clock.now()))).outcome is Outcome.SUSPENDED
    assert (await worker.events(EventKind.OTP_REJECTED))[-1].details["suspended"] is True


async def spend(worker, app):
    """Type ten wrong codes in a session, and wait for the end of the lock that they lead to."""
    await worker.fail(ALICE, app, times=5)
    await worker.advance(minutes=15)
    last = await worker.fail(ALICE, app, times=5)
    await worker.advance(minutes=30)
    return last


async def test_s4_a_session_with_ten_wrong_codes_is_spent(worker, clock, app):
    assert (await spend(worker, app)).attempts_remaining == 0
    verification = await worker.verify(ALICE, app.code(clock.now()))
    assert verification == Verification(Outcome.SESSION_SPENT)


async def test_s4_codes_of_a_spent_session_count_for_nobody(world, worker, app):
    await spend(worker, app)
    await worker.fail(ALICE, app)  # on record
    before = await world.state()
    await worker.fail(ALICE, app, times=20)
    assert await world.state() == before


async def test_s4_after_a_new_sign_in_the_person_gives_codes_again(worker, clock, app):
    await spend(worker, app)
    verification = await worker.verify(person(session="anew"), app.code(clock.now()))
    assert verification.outcome is Outcome.VERIFIED


async def test_s4_the_audit_event_says_that_the_session_is_spent(worker, app):
    await spend(worker, app)
    spent = [
        event.details["session_spent"] for event in await worker.events(EventKind.OTP_REJECTED)
    ]
    assert spent == [False] * 9 + [True]


async def test_s4_of_refused_attempts_one_a_minute_is_on_record(world, worker, app):
    await worker.fail(ALICE, app, times=12)
    await (await world.worker()).fail(ALICE, app, times=5)
    await worker.advance(minutes=1)
    await worker.fail(person(session="phone"), app, times=5)
    refused = await worker.events(EventKind.ATTEMPTS_REFUSED)
    assert [event.details for event in refused] == [
        details_of(actor, enrollment_id=app.enrollment_id, codes="one_time", cause="throttled")
        for actor in (ALICE, person(session="phone"))
    ]


async def test_s5_a_lock_ends_no_elevation(worker, app):
    await worker.elevate(ALICE, app)
    await worker.fail(ALICE, app, times=5)
    assert (await worker.check(ALICE)).verdict.reason is Reason.ELEVATED


async def test_s5_a_lock_does_not_block_the_reset_code(worker, app):
    await worker.fail(ALICE, app, times=5)
    assert (await worker.reset(ALICE, app.reset_code)).is_accepted


@pytest.mark.usefixtures("clock")
async def test_s7_a_pending_enrollment_verifies_nothing(worker):
    screen = await worker.begin(ALICE)
    verification = await worker.verify(ALICE, "000000")
    assert verification.outcome is Outcome.NOT_ENROLLED
    assert screen.secret is not None


async def test_a_user_without_an_authenticator_is_not_enrolled(world, worker):
    before = await world.state()
    verification = await worker.verify(ALICE, "123456")
    assert verification == Verification(Outcome.NOT_ENROLLED)
    assert await world.state() == before


@pytest.mark.usefixtures("clock")
async def test_s13_every_code_that_was_looked_at_is_one_event(worker, app):
    before = len(await worker.events())
    await worker.elevate(ALICE, app)
    await worker.fail(ALICE, app)
    kinds = [event.kind for event in (await worker.events())[before:]]
    assert kinds == [EventKind.OTP_VERIFIED, EventKind.OTP_REJECTED]


async def test_the_event_of_a_right_code_says_for_whom_through_whom_and_which_step(
    worker, clock, app
):
    await worker.elevate(ALICE, app)
    [event] = await worker.events(EventKind.OTP_VERIFIED)
    assert (event.tenant_id, event.actor_user_id, event.subject_user_id) == (ACME, "alice", "alice")
    assert event.caller == CALLER
    assert event.occurred_at == clock.now()
    assert event.details == details_of(
        ALICE,
        enrollment_id=app.enrollment_id,
        step=int(clock.now().timestamp()) // 30,
    )


@pytest.mark.parametrize("is_right", [True, False])
async def test_the_same_request_again_is_no_second_attempt(world, worker, clock, app, is_right):
    code = app.code(clock.now()) if is_right else app.wrong_code(clock.now())
    await worker.verify(ALICE, code, REQUEST)
    before = world.tables()
    await worker.verify(ALICE, code, REQUEST)
    assert world.tables() == before


async def test_another_worker_knows_the_recorded_outcome(world, worker, clock, app):
    code = app.code(clock.now())
    first = await worker.verify(ALICE, code, REQUEST)
    other_worker = await world.worker()
    assert await other_worker.verify(ALICE, code, REQUEST) == first


async def test_s25_an_outcome_that_was_put_back_after_its_elevation_ended_is_not_answered(
    world, worker, clock, app
):
    code = app.code(clock.now())
    await worker.verify(ALICE, code, REQUEST)
    recorded = await world.remembered()
    clock.advance(minutes=15)
    await world.remember(recorded)
    await worker.poll()
    assert (await worker.verify(ALICE, code, REQUEST)).outcome is Outcome.REJECTED


async def replace_the_authenticator(worker, app):
    await worker.wizard(person(session="phone"), app.reset_code)


ENDS = [
    lambda worker, _: worker.revoke(ALICE),
    lambda worker, _: worker.revoke(ALICE, Scope.USER),
    lambda worker, app: worker.reset(ALICE, app.reset_code),
    replace_the_authenticator,
]


@pytest.mark.parametrize("end", ENDS, ids=["session", "user", "reset", "replaced"])
@pytest.mark.parametrize("redis_forgets", [False, True])
async def test_s10_an_outcome_whose_elevation_was_revoked_is_not_answered(
    world, worker, app, end, redis_forgets
):
    code = app.code(worker.clock.now())
    await worker.verify(ALICE, code, REQUEST)
    before = await world.remembered()
    await end(worker, app)
    if redis_forgets:
        await world.remember(before)
    again = await worker.verify(ALICE, code, REQUEST)
    assert again.outcome in (Outcome.REJECTED, Outcome.NOT_ENROLLED)
    assert again.elevation is None
    assert (await worker.check(ALICE)).verdict.decision is not Decision.ALLOWED


async def test_s10_nor_is_it_when_a_later_code_has_elevated_the_session_again(worker, app):
    code = app.code(worker.clock.now())
    await worker.verify(ALICE, code, REQUEST)
    await worker.revoke(ALICE)
    await worker.advance(seconds=30)
    await worker.elevate(ALICE, app)
    again = await worker.verify(ALICE, code, REQUEST)
    assert (again.outcome, again.elevation) == (Outcome.REJECTED, None)
    assert (await worker.check(ALICE)).verdict.reason is Reason.ELEVATED


async def test_an_outcome_is_answered_although_a_later_code_has_elevated_the_session(worker, app):
    code = app.code(worker.clock.now())
    first = await worker.verify(ALICE, code, REQUEST)
    await worker.advance(seconds=30)
    await worker.elevate(ALICE, app)
    assert await worker.verify(ALICE, code, REQUEST) == first


async def test_s17_without_the_change_feed_no_recorded_elevation_is_answered(worker, clock, app):
    code = app.code(clock.now())
    await worker.verify(ALICE, code, REQUEST)
    clock.advance(seconds=6)
    with pytest.raises(StoreUnavailableError):
        await worker.verify(ALICE, code, REQUEST)


async def test_a_request_id_with_another_code_is_refused(world, worker, clock, app):
    await worker.verify(ALICE, app.wrong_code(clock.now()), REQUEST)
    refused = await world.refuses(
        worker.verify(ALICE, app.code(clock.now()), REQUEST), InvalidFieldError
    )
    assert refused.field == "request_id"


@pytest.mark.parametrize(
    ("actor", "caller"), [(person(session="phone"), CALLER), (ALICE, "another-service")]
)
async def test_a_request_id_of_another_session_or_caller_is_refused(
    worker, clock, app, actor, caller
):
    code = app.code(clock.now())
    await worker.verify(ALICE, code, REQUEST)
    with pytest.raises(InvalidFieldError):
        await worker.verify(actor, code, REQUEST, caller=caller)


async def test_two_users_equal_request_ids_are_different_requests(worker, clock, app):
    bob = person("bob")
    bobs = await worker.enrol(bob)
    await worker.verify(ALICE, app.code(clock.now()), REQUEST)
    assert (await worker.verify(bob, bobs.code(clock.now()), REQUEST)).outcome is Outcome.VERIFIED


async def test_s11_redis_holds_no_code(world, worker, clock, app):
    code = app.code(clock.now())
    await worker.verify(ALICE, code, REQUEST)
    assert code.encode() not in b"".join((await world.remembered()).values())


@pytest.mark.parametrize("fault", ["writes", "audit_trail_takes_events", "commits"])
async def test_s3_no_outcome_leaves_before_the_attempt_is_committed(
    world, worker, clock, app, fault
):
    setattr(world.database, fault, False)
    await world.refuses(worker.verify(ALICE, app.code(clock.now())))


@pytest.mark.parametrize("fault", ["writes", "audit_trail_takes_events", "commits"])
async def test_a_request_whose_attempt_was_not_committed_may_be_made_again(
    world, worker, clock, app, fault
):
    code = app.code(clock.now())
    setattr(world.database, fault, False)
    with pytest.raises(StoreUnavailableError):
        await worker.verify(ALICE, code, REQUEST)
    setattr(world.database, fault, True)
    assert (await worker.verify(ALICE, code, REQUEST)).outcome is Outcome.VERIFIED


async def test_a_claim_that_cannot_be_released_is_pending(world, worker, clock, app):
    code = app.code(clock.now())
    world.database.commits = world.outcomes.releases = False
    with pytest.raises(StoreUnavailableError, match="told to fail"):
        await worker.verify(ALICE, code, REQUEST)
    world.database.commits = world.outcomes.releases = True
    with pytest.raises(RequestUnderWayError):
        await worker.verify(ALICE, code, REQUEST)


async def test_s2_a_lost_acknowledgement_lets_no_code_be_taken_twice(world, worker, clock, app):
    code = app.code(clock.now())
    world.database.acknowledges_commits = False
    with pytest.raises(StoreUnavailableError):
        await worker.verify(ALICE, code)
    world.database.acknowledges_commits = True
    assert (await worker.verify(ALICE, code)).outcome is Outcome.REJECTED


async def test_s17_a_code_whose_elevation_cannot_be_stored_is_no_answer(world, worker, clock, app):
    world.elevations.replaces = False
    with pytest.raises(StoreUnavailableError):
        await worker.verify(ALICE, app.code(clock.now()))
    assert (await worker.check(ALICE)).verdict.reason is Reason.NOT_ELEVATED


async def test_a_request_whose_elevation_could_not_be_stored_stays_pending(
    world, worker, clock, app
):
    code = app.code(clock.now())
    world.elevations.replaces = False
    with pytest.raises(StoreUnavailableError):
        await worker.verify(ALICE, code, REQUEST)
    world.elevations.replaces = True
    await world.refuses(worker.verify(ALICE, code, REQUEST), RequestUnderWayError)


async def test_without_the_recorded_outcomes_a_request_id_is_no_answer(world, worker, clock, app):
    world.outcomes.claims = False
    await world.refuses(worker.verify(ALICE, app.code(clock.now()), REQUEST))


async def test_without_a_request_id_nothing_is_recorded(world, worker, clock, app):
    world.outcomes.claims = world.outcomes.records = False
    assert (await worker.verify(ALICE, app.code(clock.now()))).outcome is Outcome.VERIFIED


async def test_an_outcome_that_cannot_be_recorded_is_no_answer(world, worker, clock, app):
    world.outcomes.records = False
    with pytest.raises(StoreUnavailableError):
        await worker.verify(ALICE, app.code(clock.now()), REQUEST)


@pytest.mark.usefixtures("worker")
async def test_s6_a_secret_whose_key_is_gone_verifies_nothing(world, clock, app):
    world.keys = fresh_ring()
    other_worker = await world.worker()
    await world.refuses(other_worker.verify(ALICE, app.code(clock.now()), REQUEST), SealBrokenError)


@pytest.mark.usefixtures("app")
async def test_s6_a_secret_moved_to_another_user_verifies_nothing(world, worker, clock):
    mallory = person("mallory")
    mallorys = await worker.enrol(mallory)
    world.sql(
        "UPDATE authenticators SET ciphertext ="
        " (SELECT ciphertext FROM authenticators WHERE user_id = 'mallory')"
        " WHERE user_id = 'alice'"
    )
    with pytest.raises(SealBrokenError):
        await worker.verify(ALICE, mallorys.code(clock.now()))


class _HeldUp:
    """A database whose next transaction waits until it is let go."""

    def __init__(self, inner):
        self._inner = inner
        self.reached = asyncio.Event()
        self.let_go = asyncio.Event()

    @asynccontextmanager
    async def transaction(self, tenant_id=None):
        self.reached.set()
        await self.let_go.wait()
        async with self._inner.transaction(tenant_id) as records:
            yield records


@pytest.fixture
def held_up(world):
    return _HeldUp(world.database)


@pytest.fixture
def verify_held_up(world, worker, held_up):
    elevated = worker.application.handlers.step_up.check.elevated
    return VerifyOtp(OneTimeCodes(held_up, world.outcomes, world.keys), elevated)


async def _give_up(verify, held_up, context, code, request_id=None):
    call = asyncio.create_task(verify(context, code, request_id))
    await held_up.reached.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_an_attempt_is_finished_although_its_caller_gives_up(
    worker, clock, app, held_up, verify_held_up
):
    code = OtpCode(app.code(clock.now()))
    await _give_up(verify_held_up, held_up, worker.context(ALICE), code, REQUEST)
    held_up.let_go.set()
    await verify_held_up.codes.drain()
    assert (await worker.check(ALICE)).verdict.reason is Reason.ELEVATED


async def test_the_resend_of_a_call_that_was_given_up_gets_its_outcome(
    worker, clock, app, held_up, verify_held_up
):
    code = app.code(clock.now())
    await _give_up(verify_held_up, held_up, worker.context(ALICE), OtpCode(code), REQUEST)
    held_up.let_go.set()
    await verify_held_up.codes.drain()
    assert (await worker.verify(ALICE, code, REQUEST)).outcome is Outcome.VERIFIED


async def test_draining_waits_for_attempts_that_fail(world, worker, app, held_up, verify_held_up):
    code = OtpCode(app.code(world.clock.now()))
    await _give_up(verify_held_up, held_up, worker.context(ALICE), code)
    world.database.writes = False
    held_up.let_go.set()
    await verify_held_up.codes.drain()
    assert await worker.events(EventKind.OTP_VERIFIED) == []


async def test_a_cancelled_attempt_is_cancelled_for_whoever_waits(
    worker, clock, app, held_up, verify_held_up
):
    """The event loop cancels everything when it ends: nothing of the attempt is stored then."""
    code = OtpCode(app.code(clock.now()))
    call = asyncio.create_task(verify_held_up(worker.context(ALICE), code))
    await held_up.reached.wait()
    mine = asyncio.current_task()
    for task in asyncio.all_tasks() - {mine, call}:
        if "OneTimeCodes._attempt" in repr(task.get_coro()):
            task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await worker.events(EventKind.OTP_VERIFIED) == []
