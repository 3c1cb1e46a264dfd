"""`ForgetUser`: what ends for a user who left, and how a later person with the same id starts."""

from datetime import timedelta

import pytest
from stepup_tests.metrics import metric
from stepup_tests.otp import code_at
from stepup_tests.people import administrator, deprovisioning, operator, person
from stepup_tests.worker import OSQUERY, SIGN_IN, details_of

from stepup.domain.actor import UserId
from stepup.domain.audit import EventKind
from stepup.domain.decision import Reason
from stepup.domain.errors import (
    ElevationRequiredError,
    EnrollmentFault,
    EnrollmentStateError,
    NotForOneselfError,
    RoleRequiredError,
)
from stepup.domain.person import EndedBy
from stepup.domain.receipts import ReceiptRejection

ALICE = person()
ON_PHONE = person(session="phone")
ROOT = administrator()
OLGA = operator()
PROGRAM = deprovisioning()
KINDS = [
    (ROOT, EventKind.USER_FORGOTTEN, EndedBy.ADMINISTRATOR),
    (OLGA, EventKind.USER_FORGOTTEN_BY_OPERATOR, EndedBy.OPERATOR),
    (PROGRAM, EventKind.USER_DEPROVISIONED, EndedBy.DEPROVISIONING),
]
ACTORS = ["administrator", "operator", "deprovisioning"]


@pytest.fixture
async def app(worker):
    """Alice has an authenticator and is elevated, and so is the administrator."""
    await worker.select(OSQUERY)
    await worker.elevate(ROOT, await worker.enrol(ROOT))
    app = await worker.enrol(ALICE)
    await worker.elevate(ALICE, app)
    return app


async def reason(worker, actor=ALICE, operation=OSQUERY):
    return (await worker.check(actor, operation)).verdict.reason


async def past(world, user):
    async with world.database.snapshot() as records:
        return await records.past.find(ALICE.tenant_id, UserId(user))


async def ever_enrolled(world, user):
    async with world.database.snapshot() as records:
        return await records.people.ever_enrolled(ALICE.tenant_id, UserId(user))


@pytest.mark.parametrize("actor", [ROOT, OLGA, PROGRAM], ids=ACTORS)
async def test_s10_everything_in_force_ends_in_all_workers(world, worker, app, actor):
    other = await world.worker()
    await worker.begin(ON_PHONE, app.reset_code)
    challenge = await worker.challenge(ALICE)
    await worker.forget(actor, "alice")
    await other.poll()
    for each in (worker, other):
        assert await reason(each) is Reason.NOT_ENROLLED
    standing = await worker.standing(ON_PHONE)
    assert (standing.active, standing.pending, standing.account_mfa_enabled) == (None, None, False)
    assert (await worker.read(ALICE, challenge)).state.value == "revoked"


async def test_the_reset_code_goes_with_the_authenticator(worker, app):
    await worker.forget(OLGA, "alice")
    with pytest.raises(EnrollmentStateError):
        await worker.reset(ALICE, app.reset_code)


@pytest.mark.usefixtures("app")
async def test_nobody_else_is_forgotten(worker):
    bob, carol = person("bob"), person(tenant="globex")
    await worker.enrol(bob)
    await worker.enrol(carol)
    await worker.forget(OLGA, "alice")
    assert (await worker.standing(bob)).active is not None
    assert (await worker.standing(carol)).active is not None
    assert await reason(worker, ROOT) is Reason.ELEVATED


@pytest.mark.usefixtures("app")
async def test_s10_the_elevation_ends_although_redis_loses_the_deletion(world, worker):
    kept = await world.remembered()
    await worker.forget(OLGA, "alice")
    await world.remember(kept)
    await worker.wizard(ON_PHONE)
    assert await reason(worker) is Reason.NOT_ELEVATED


@pytest.mark.usefixtures("app")
async def test_s10_receipts_of_before_are_void(worker):
    receipt = (await worker.check(ALICE)).receipt
    await worker.forget(OLGA, "alice")
    await worker.advance(seconds=30)
    await worker.elevate(ON_PHONE, await worker.enrol(ALICE))
    retried = await worker.retry(ALICE, receipt)
    assert retried.verdict.receipt_rejection is ReceiptRejection.REVOKED


async def test_a_later_person_with_the_same_id_starts_clean(worker, app):
    await worker.fail(ALICE, app, times=5)
    await worker.forget(OLGA, "alice")
    later = await worker.enrol(ALICE)
    active = (await worker.standing(ALICE)).active
    assert (active.generation, active.unlocked_at) == (1, ())
    await worker.elevate(ALICE, later)
    assert (await worker.fail(ALICE, later)).attempts_remaining == 4


@pytest.mark.usefixtures("app")
async def test_a_later_person_with_the_same_id_gives_no_code_at_sign_in_where_mfa_is_off(worker):
    await worker.update_policy(ROOT, enabled=False)
    await worker.forget(OLGA, "alice")
    assert await reason(worker, operation=SIGN_IN) is Reason.MFA_NOT_ENABLED


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize(("actor", "_kind", "by"), KINDS, ids=ACTORS)
async def test_that_the_id_once_had_an_authenticator_is_remembered(
    world, worker, clock, actor, _kind, by
):
    world.sql("INSERT INTO asked_people VALUES ('acme', 'alice', '2026-01-01', '2026-01-01')")
    await worker.forget(actor, "alice")
    ended = await past(world, "alice")
    assert (ended.ended_at, ended.ended_by) == (clock.now(), by)
    assert world.sql("SELECT * FROM accounts WHERE user_id = 'alice'") == []
    assert world.sql("SELECT * FROM asked_people") == []
    assert await ever_enrolled(world, "alice")


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize(("actor", "kind", "_by"), KINDS, ids=ACTORS)
async def test_s13_the_event_has_who_whom_and_why(worker, app, actor, kind, _by):
    challenge = await worker.challenge(ALICE)
    before = len(await worker.events())
    await worker.forget(actor, "alice", reason="left")
    forgotten, turned = (await worker.events())[before:]
    assert (forgotten.kind, turned.kind) == (kind, EventKind.ACCOUNT_MFA_CHANGED)
    assert {event.actor_user_id for event in (forgotten, turned)} == {
        "root" if actor is ROOT else None
    }
    assert {event.subject_user_id for event in (forgotten, turned)} == {"alice"}
    assert forgotten.details == details_of(
        actor,
        enrollment_id=app.enrollment_id,
        challenges=[str(challenge)],
        **({} if actor is OLGA else {"reason": "left"}),
    )
    assert turned.details == details_of(actor, enabled=False, cause=kind.value)


@pytest.mark.parametrize(("actor", "kind", "_by"), KINDS[1:], ids=ACTORS[1:])
async def test_a_user_whom_nobody_knows_is_forgotten_each_time(worker, actor, kind, _by):
    for _ in range(2):
        await worker.forget(actor, "nobody", reason=None)
    events = await worker.events()
    assert [event.kind for event in events] == [kind, kind]
    assert events[0].details == details_of(actor, enrollment_id=None)


@pytest.mark.usefixtures("app")
async def test_a_retried_call_succeeds(worker):
    await worker.forget(ROOT, "alice")
    await worker.forget(ROOT, "alice")
    assert len(await worker.events(EventKind.USER_FORGOTTEN)) == 2


async def test_who_had_none_is_forgotten_with_the_wizard(worker):
    await worker.begin(ALICE)
    await worker.forget(OLGA, "alice")
    assert (await worker.standing(ALICE)).pending is None


@pytest.mark.usefixtures("app")
async def test_the_devices_of_the_users_events_are_forgotten(world, worker):
    for user, sequence in (("alice", 1), ("bob", 2)):
        world.sql(
            "INSERT INTO event_clients (tenant_id, sequence, user_id, occurred_at, salt, address,"
            " user_agent) VALUES ('acme', ?, ?, '2026-01-01', x'00', '192.0.2.1', '')",
            sequence,
            user,
        )
    await worker.forget(OLGA, "alice")
    assert world.sql("SELECT user_id FROM event_clients") == [("bob",)]


@pytest.mark.usefixtures("app")
async def test_it_is_counted_once_it_is_committed(world, worker):
    def counts():
        by_operator = metric("stepup_operator_acts_total", kind="user_forgotten_by_operator")
        return by_operator, metric("stepup_users_deprovisioned_total")

    operators, deprovisioned = counts()
    world.database.commits = False
    for actor in (OLGA, PROGRAM):
        await world.refuses(worker.forget(actor, "alice"))
    assert counts() == (operators, deprovisioned)
    world.database.commits = True
    for actor in (ROOT, OLGA, PROGRAM):
        await worker.forget(actor, "alice")
    assert counts() == (operators + 1, deprovisioned + 1)


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize("fault", ["writes", "audit_trail_takes_events", "commits"])
@pytest.mark.parametrize("actor", [ROOT, OLGA, PROGRAM], ids=ACTORS)
async def test_s13_without_its_event_nobody_is_forgotten(world, worker, actor, fault):
    setattr(world.database, fault, False)
    await world.refuses(worker.forget(actor, "alice"))


async def test_an_administrator_needs_an_own_elevation(world, worker):
    await worker.enrol(ALICE)
    await worker.enrol(ROOT)
    await world.refuses(worker.forget(ROOT, "alice"), ElevationRequiredError)


@pytest.mark.usefixtures("app")
async def test_another_role_forgets_nobody_even_elevated(world, worker):
    await world.refuses(worker.forget(ALICE, "root"), RoleRequiredError)


@pytest.mark.usefixtures("app")
async def test_an_administrator_does_not_forget_themselves(world, worker):
    await world.refuses(worker.forget(ROOT, "root"), NotForOneselfError)


async def test_s10_a_wizard_that_is_completed_meanwhile_ends_or_is_forgotten(world, worker):
    """The other worker commits after this one has received the last screen."""
    other = await world.worker()
    screen = await worker.begin(ALICE)
    await worker.confirm(ALICE, code_at(screen.secret.octets, worker.clock.now()))
    world.database.before_transaction = lambda: other.forget(OLGA, "alice")
    with pytest.raises(EnrollmentStateError) as refused:
        await worker.complete(ALICE)
    assert refused.value.fault is EnrollmentFault.NOTHING_PENDING
    assert (await worker.standing(ALICE)).active is None


@pytest.mark.parametrize("enrolled", [True, False], ids=["enrolled", "never enrolled"])
@pytest.mark.parametrize("actor", [OLGA, PROGRAM], ids=ACTORS[1:])
async def test_a_later_person_with_the_same_id_gets_no_time_to_enrol(
    world, worker, clock, actor, enrolled
):
    other = await world.worker()
    enroll_by = clock.now() + timedelta(hours=1)
    await worker.update_policy(ROOT, enabled=True, selected=[OSQUERY], enroll_by=enroll_by)
    assert await reason(worker) is Reason.ENROLLMENT_GRACE
    if enrolled:
        await worker.enrol(ALICE)
    await worker.forget(actor, "alice")
    await other.poll()
    assert await reason(worker) is await reason(other) is Reason.NOT_ENROLLED
    assert await reason(worker, person("bob")) is Reason.ENROLLMENT_GRACE
    later = await worker.enrol(ALICE)
    await worker.elevate(ALICE, later)
    assert await reason(worker) is Reason.ELEVATED


@pytest.mark.parametrize("actor", [OLGA, PROGRAM], ids=["operator", "deprovisioning"])
async def test_who_was_asked_before_does_not_come_on_record_afterwards(world, worker, actor):
    await worker.select(OSQUERY)
    await worker.check(ALICE, OSQUERY)
    await worker.check(person("bob"), OSQUERY)
    await worker.advance(seconds=1)
    await worker.forget(actor, "alice")
    await worker.application.asked.flush()
    assert world.sql("SELECT user_id FROM asked_people") == [("bob",)]
