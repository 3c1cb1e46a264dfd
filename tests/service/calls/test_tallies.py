"""What is counted of decisions and codes."""

from contextlib import asynccontextmanager

import pytest
from stepup_tests.metrics import metric
from stepup_tests.people import person
from stepup_tests.worker import OSQUERY

from stepup.domain.actor import RetryReceipt
from stepup.domain.errors import StoreUnavailableError
from stepup.domain.reset_code import ResetCode
from stepup.service.calls.tallies import count_mistyped_reset_code

ALICE = person()
REQUIRED = {"decision": "step_up_required", "reason": "not_elevated"}
ELEVATED = {"decision": "allowed", "reason": "elevated"}


@pytest.fixture
async def app(worker):
    await worker.select(OSQUERY)
    return await worker.enrol(ALICE)


@asynccontextmanager
async def counted(times, name, **labels):
    """Demand that the block counts so many more."""
    before = metric(name, **labels)
    yield
    assert metric(name, **labels) == before + times


@pytest.mark.usefixtures("app")
async def test_a_decision_is_counted_under_its_rule(worker):
    async with (
        counted(2, "stepup_decisions_total", **REQUIRED),
        counted(0, "stepup_decisions_total", **ELEVATED),
    ):
        await worker.check(ALICE)
        await worker.check(ALICE)


@pytest.mark.usefixtures("app")
async def test_a_decision_that_is_not_on_record_is_not_counted(world, worker):
    world.decision_log.works = False
    async with counted(0, "stepup_decisions_total", **REQUIRED):
        with pytest.raises(StoreUnavailableError):
            await worker.check(ALICE)


@pytest.mark.usefixtures("app")
async def test_a_receipt_that_buys_nothing_is_counted(worker):
    forged = person(retry_receipt=RetryReceipt("1.k.x.y"))
    async with counted(1, "stepup_receipts_refused_total", rejection="not_authentic"):
        await worker.check(forged)


async def test_an_attempt_is_counted_by_what_became_of_it(worker, clock, app):
    async with (
        counted(1, "stepup_verifications_total", outcome="verified", cause=""),
        counted(1, "stepup_verifications_total", outcome="rejected", cause="wrong"),
        counted(2, "stepup_verifications_total", outcome="rejected", cause="repeated"),
        counted(1, "stepup_verifications_total", outcome="rejected", cause="replayed"),
        counted(1, "stepup_verifications_total", outcome="rejected", cause="late"),
        counted(1, "stepup_verifications_total", outcome="rejected", cause="early"),
    ):
        await worker.fail(ALICE, app)
        for actor in (ALICE, ALICE, ALICE, person(session="phone")):
            await worker.verify(actor, app.code(clock.now()))
        for steps in (-1, 1):
            await worker.verify(ALICE, app.code(clock.now(), steps=steps))


async def test_an_attempt_that_was_not_committed_is_not_counted(world, worker, clock, app):
    world.database.commits = False
    async with counted(0, "stepup_verifications_total", outcome="verified", cause=""):
        with pytest.raises(StoreUnavailableError):
            await worker.verify(ALICE, app.code(clock.now()))


async def test_s4_a_lock_is_counted_once(worker, app):
    async with counted(1, "stepup_locks_total", codes="one_time"):
        await worker.fail(ALICE, app, times=7)


async def test_s4_a_spent_session_is_counted_once(worker, app):
    async with (
        counted(2, "stepup_locks_total", codes="one_time"),
        counted(1, "stepup_locks_total", codes="session"),
        counted(1, "stepup_verifications_total", outcome="session_spent", cause=""),
    ):
        await worker.fail(ALICE, app, times=5)
        await worker.advance(minutes=15)
        await worker.fail(ALICE, app, times=6)


@pytest.mark.usefixtures("app")
async def test_s8_reset_codes_and_their_lock_are_counted(worker):
    async with (
        counted(1, "stepup_locks_total", codes="reset"),
        counted(0, "stepup_locks_total", codes="one_time"),
        counted(10, "stepup_resets_total", outcome="wrong"),
        counted(1, "stepup_resets_total", outcome="throttled"),
    ):
        for _ in range(11):
            await worker.reset(ALICE, ResetCode(bytes(16)))


async def test_s17_when_the_change_feed_was_read_is_shown(worker, clock):
    await worker.advance(seconds=1)
    assert metric("stepup_change_feed_read_seconds") == clock.now().timestamp()


async def test_a_mistyped_reset_code_is_counted():
    async with counted(1, "stepup_resets_total", outcome="mistyped"):
        count_mistyped_reset_code()
