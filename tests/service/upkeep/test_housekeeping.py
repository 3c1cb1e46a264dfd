"""Housekeeping: what has expired is forgotten, and nothing else."""

from datetime import timedelta

import pytest
from stepup_tests.people import person
from stepup_tests.worker import OSQUERY

from stepup.domain.decision import Decision, Reason
from stepup.domain.receipts import ReceiptRejection
from stepup.service.step_up.revocation import Scope

ALICE = person()


async def test_an_expired_wizard_is_removed(world, worker):
    await worker.begin(ALICE)
    await worker.advance(minutes=10)
    await worker.keep_house()
    assert world.tables()["pending_enrollments"] == []


async def test_an_open_wizard_stays(worker):
    screen = await worker.begin(ALICE)
    await worker.advance(minutes=9)
    await worker.keep_house()
    assert (await worker.standing(ALICE)).pending.enrollment_id == screen.enrollment_id


async def test_a_used_receipt_is_remembered_for_a_day_beyond_its_window(world, worker):
    await worker.select(OSQUERY)
    app = await worker.enrol(ALICE)
    await worker.elevate(ALICE, app)
    receipt = (await worker.check(ALICE)).receipt
    await worker.retry(ALICE, receipt)
    await worker.advance(minutes=25 * 60 - 1)
    await worker.keep_house()
    assert len(world.tables()["redemptions"]) == 1
    await worker.advance(minutes=1)
    await worker.keep_house()
    assert world.tables()["redemptions"] == []


async def test_s10_a_revocation_is_kept_for_workers_that_start_later(world, worker):
    await worker.select(OSQUERY)
    app = await worker.enrol(ALICE)
    await worker.elevate(ALICE, app)
    elevated = await world.remembered()
    await worker.revoke(ALICE)
    await worker.advance(minutes=14)
    await worker.keep_house()
    await world.remember(elevated)
    started = await world.worker()
    assert (await started.check(ALICE)).verdict.reason is Reason.NOT_ELEVATED


@pytest.mark.parametrize(
    ("retry_window", "kept"),
    [
        (timedelta(minutes=5), timedelta(hours=3)),
        (timedelta(minutes=60), timedelta(hours=3)),
        (timedelta(hours=24), timedelta(hours=26)),
    ],
)
async def test_s10_a_revocation_is_kept_for_as_long_as_a_receipt_is_good(world, retry_window, kept):
    worker = await world.worker(retry_window=retry_window)
    await worker.revoke(ALICE, Scope.USER)
    await worker.advance(seconds=kept.total_seconds())
    await worker.keep_house()
    assert len(world.tables()["changes"]) == 1
    await worker.advance(seconds=1)
    await worker.keep_house()
    assert world.tables()["changes"] == []


async def test_s10_a_receipt_stays_void_until_its_window_ends(world):
    window = timedelta(hours=24)
    worker = await world.worker(retry_window=window)
    await worker.select(OSQUERY)
    app = await worker.enrol(ALICE)
    await worker.elevate(ALICE, app)
    receipt = (await worker.check(ALICE)).receipt
    await worker.revoke(ALICE, Scope.USER)
    await worker.advance(seconds=window.total_seconds() - 1)
    await worker.keep_house()
    verdict = (await worker.retry(ALICE, receipt)).verdict
    assert verdict.receipt_rejection is ReceiptRejection.REVOKED


async def test_an_old_change_is_removed(world, worker):
    await worker.revoke(ALICE)
    await worker.advance(minutes=3 * 60 + 1)
    await worker.keep_house()
    assert world.tables()["changes"] == []


async def test_what_is_in_force_and_what_happened_stay(world, worker):
    await worker.select(OSQUERY)
    app = await worker.enrol(ALICE)
    before = world.tables()
    await worker.advance(minutes=60 * 24 * 365)
    await worker.keep_house()
    after = world.tables()
    kept = ("authenticators", "reset_codes", "policies", "audit_events", "audit_heads")
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    await worker.elevate(ALICE, app)


@pytest.mark.parametrize("fault", ["writes", "commits"])
async def test_what_fails_removes_nothing(world, worker, fault):
    await worker.begin(ALICE)
    await worker.advance(minutes=10)
    setattr(world.database, fault, False)
    await world.refuses(worker.keep_house())


async def test_a_policy_outlives_its_change_in_the_feed(world, worker):
    await worker.select(OSQUERY)
    await worker.advance(minutes=3 * 60 + 1)
    await worker.keep_house()
    started = await world.worker()
    assert (await started.check(ALICE)).verdict.decision is Decision.ENROLLMENT_REQUIRED
