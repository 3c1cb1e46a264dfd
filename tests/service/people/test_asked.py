"""People without an authenticator who are asked for a code are recorded once a day."""

from datetime import timedelta

import pytest
from stepup_tests.metrics import metric
from stepup_tests.people import administrator, operator, person
from stepup_tests.worker import OSQUERY, SIGN_IN

from stepup.domain.changes import SessionRevoked, UserRevoked
from stepup.domain.decision import Decision, Reason, Verdict
from stepup.domain.errors import StoreUnavailableError
from stepup.service.people import asked

ALICE, ROOT = person(), administrator()
NOT_ENROLLED = Verdict(Decision.ENROLLMENT_REQUIRED, Reason.NOT_ENROLLED)


@pytest.fixture
def recorder(worker):
    return worker.application.asked


@pytest.fixture
def ask(worker, recorder):
    """Notes users as decisions do."""

    def ask(*users, tenant="acme"):
        for user in users:
            recorder.note(worker.context(person(user, tenant=tenant)), [NOT_ENROLLED])

    return ask


@pytest.fixture
def few(monkeypatch):
    """A tenant has room for three people, four people may wait, and two are written at a time."""
    monkeypatch.setattr(asked, "MAX_ASKED", 3)
    monkeypatch.setattr(asked, "MAX_WAITING", 4)
    monkeypatch.setattr(asked, "PORTION", 2)


def recorded(world, tenant="acme"):
    rows = world.sql("SELECT user_id FROM asked_people WHERE tenant_id = ? ORDER BY 1", tenant)
    return [user for (user,) in rows]


@pytest.fixture
def not_recorded():
    """How many times people were not recorded in this test, by cause."""

    def count(cause):
        return metric("stepup_asked_people_not_recorded_total", cause=cause)

    before = {cause: count(cause) for cause in ("tenant_full", "queue_full", "shutdown")}
    return lambda: {
        cause: count(cause) - was for cause, was in before.items() if count(cause) != was
    }


@pytest.mark.parametrize("operation", [OSQUERY, SIGN_IN])
@pytest.mark.parametrize("grace", [None, timedelta(days=1)])
async def test_a_person_without_an_authenticator_is_recorded_after_the_decision(
    world, worker, recorder, operation, grace
):
    enroll_by = worker.clock.now() + grace if grace else None
    await worker.update_policy(ROOT, enabled=True, selected=[OSQUERY], enroll_by=enroll_by)
    reason = Reason.ENROLLMENT_GRACE if grace else Reason.NOT_ENROLLED
    before = world.database.transactions
    assert (await worker.check(ALICE, operation)).verdict.reason is reason
    assert world.database.transactions == before
    await recorder.flush()
    assert recorded(world) == ["alice"]


async def test_other_decisions_record_nobody(world, worker, recorder):
    await worker.select(OSQUERY)
    app = await worker.enrol(ALICE)
    await worker.check(ALICE)
    await worker.elevate(ALICE, app)
    await worker.check(ALICE)
    await worker.check(person("bob"), "response.collect_file")
    await recorder.flush()
    assert recorded(world) == []


async def test_a_person_is_written_once_a_day(world, worker, recorder, ask):
    for seconds, written in ((0, 1), (60, 0), (86_400 - 60, 1), (1, 0)):
        worker.clock.advance(seconds=seconds)
        before = world.database.transactions
        ask("alice", "alice")
        await recorder.flush()
        await recorder.flush()
        assert world.database.transactions == before + written
    [(first, last)] = world.sql("SELECT first_asked_at, last_asked_at FROM asked_people")
    assert (first[:10], last[:10]) == ("2026-01-01", "2026-01-02")


async def test_completing_an_enrollment_removes_the_person(world, worker, recorder, ask):
    ask("alice", "bob")
    await recorder.flush()
    await worker.wizard(ALICE)
    assert recorded(world) == ["bob"]
    ask("carol")
    await worker.wizard(person("carol"))
    await recorder.flush()
    assert recorded(world) == ["bob"]


async def test_every_worker_records_a_forgotten_person_again(world, worker):
    await worker.select(OSQUERY)
    other = await world.worker()
    for each in (worker, other):
        await each.check(ALICE)
        await each.application.asked.flush()
    await worker.forget(operator(), "alice")
    await other.poll()
    assert recorded(world) == []
    for each in (worker, other):
        await each.check(ALICE)
        await each.application.asked.flush()
        assert recorded(world) == ["alice"]
        world.sql("DELETE FROM asked_people")


async def test_a_person_without_the_authenticator_of_before_is_recorded_again(
    world, worker, recorder
):
    await worker.select(OSQUERY)
    await worker.check(ALICE)
    await recorder.flush()
    await worker.elevate(ALICE, await worker.enrol(ALICE))
    await worker.remove(ALICE)
    assert recorded(world) == []
    await worker.check(ALICE)
    await recorder.flush()
    assert recorded(world) == ["alice"]


async def test_who_is_forgotten_before_the_record_is_written_stays_forgotten(
    world, worker, recorder, ask
):
    ask("alice", "bob")
    await worker.forget(operator(), "alice")
    await recorder.flush()
    assert recorded(world) == ["bob"]


async def test_who_is_asked_after_a_revocation_is_recorded(world, worker, recorder, ask):
    before = worker.clock.now() - timedelta(seconds=1)
    ask("alice")
    recorder.follow(UserRevoked(ALICE.tenant_id, ALICE.user_id, before))
    await recorder.flush()
    assert recorded(world) == ["alice"]


async def test_a_sign_out_does_not_record_a_person_again(world, worker, recorder, ask):
    ask("alice")
    await recorder.flush()
    before = world.database.transactions
    now = worker.clock.now()
    recorder.follow(SessionRevoked(ALICE.tenant_id, ALICE.user_id, ALICE.session_hash, now))
    ask("alice")
    await recorder.flush()
    assert world.database.transactions == before


@pytest.mark.usefixtures("few")
async def test_a_full_tenant_costs_no_write_for_an_hour(world, worker, recorder, ask, not_recorded):
    ask("a", "b", "c", "d")
    await recorder.flush()
    assert (recorded(world), not_recorded()) == (["a", "b", "c"], {"tenant_full": 1})
    before = world.database.transactions
    ask("e", "f")
    await recorder.flush()
    assert (world.database.transactions, not_recorded()) == (before, {"tenant_full": 3})
    ask("a", tenant="globex")
    await recorder.flush()
    assert recorded(world, "globex") == ["a"]
    worker.clock.advance(minutes=60)
    world.sql("DELETE FROM asked_people WHERE user_id = 'a'")
    ask("e", "f")
    await recorder.flush()
    assert recorded(world) == ["b", "c", "e"]


@pytest.mark.usefixtures("few")
async def test_a_full_tenant_drops_the_people_who_wait(world, recorder, ask, not_recorded):
    ask("a", "b")
    await recorder.flush()
    ask("c", "d", "e", "f")
    before = world.database.transactions
    await recorder.flush()
    assert (recorded(world), not_recorded()) == (["a", "b", "c"], {"tenant_full": 3})
    assert world.database.transactions == before + 1


@pytest.mark.usefixtures("few")
async def test_s18_the_queue_is_bounded_and_a_dropped_person_may_be_noted_later(
    world, recorder, ask, not_recorded
):
    ask("a", "b", tenant="globex")
    ask("a", "b", "c", "d", "c")
    assert not_recorded() == {"queue_full": 3}
    await recorder.flush()
    ask("c")
    await recorder.flush()
    assert recorded(world) == ["a", "b", "c"]


async def test_s18_the_people_of_a_day_that_are_remembered_are_bounded(
    world, recorder, ask, monkeypatch
):
    monkeypatch.setattr(asked, "MAX_REMEMBERED", 2)
    ask("a", "b")
    await recorder.flush()
    before = world.database.transactions
    ask("c", "a")  # forgets both
    await recorder.flush()
    assert recorded(world) == ["a", "b", "c"]
    assert world.database.transactions == before + 1
    assert len(recorder._of_today) <= 2  # noqa: SLF001  # memory that no method shows


async def test_s17_without_sql_decisions_stay_and_people_wait(world, recorder, ask):
    ask("a", tenant="globex")
    ask("a", "b")
    world.database.writes = False
    with pytest.raises(StoreUnavailableError):
        await recorder.flush()
    ask("c", tenant="globex")
    world.database.writes = True
    world.database.tenants.clear()
    await recorder.flush()
    assert world.database.tenants == ["acme", "globex"]  # not the one that failed before
    assert (recorded(world), recorded(world, "globex")) == (["a", "b"], ["a", "c"])


async def test_the_first_instant_counts_though_it_could_not_be_written(
    world, worker, recorder, ask
):
    world.database.writes = False
    ask("alice")
    with pytest.raises(StoreUnavailableError):
        await recorder.flush()
    worker.clock.advance(minutes=24 * 60)
    ask("alice")
    world.database.writes = True
    await recorder.flush()
    [(first,)] = world.sql("SELECT first_asked_at FROM asked_people")
    assert first[:10] == "2026-01-01"


@pytest.mark.parametrize("writes", [True, False])
async def test_a_server_that_stops_writes_the_people_who_wait_or_counts_them(
    world, recorder, ask, not_recorded, writes
):
    ask("a", "b")
    world.database.writes = writes
    await recorder.flush_at_end()
    assert recorded(world) == (["a", "b"] if writes else [])
    assert not_recorded() == ({} if writes else {"shutdown": 2})
