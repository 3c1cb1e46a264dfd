"""Housekeeping: what has expired is forgotten, and nothing else."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from stepup_tests.people import ACME, person
from stepup_tests.worker import OSQUERY

from stepup.domain.actor import CallerId, Device, TenantId, UserId
from stepup.domain.audit import EventKind, written
from stepup.domain.challenge import ChallengeState
from stepup.domain.decision import Decision, Reason
from stepup.domain.person import EndedBy, PastAuthenticator
from stepup.domain.receipts import ReceiptRejection
from stepup.service.step_up.revocation import Scope
from stepup.service.upkeep import housekeeping

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


async def test_the_device_of_an_event_is_kept_for_its_retention(world, worker):
    await worker.revoke(replace(ALICE, client=Device("192.0.2.7", "Firefox")))
    await worker.advance(minutes=90 * 24 * 60)
    await worker.keep_house()
    assert len(world.tables()["event_clients"]) == 1
    await worker.advance(seconds=1)
    await worker.keep_house()
    assert world.tables()["event_clients"] == []
    assert len(await worker.events()) == 1


@pytest.mark.parametrize(("table", "days"), [("asked_people", 90), ("past_authenticators", 30)])
async def test_what_is_known_of_people_who_left_is_forgotten(world, worker, table, days):
    async with world.database.transaction() as records:
        await records.asked.note(ACME, {UserId("bob"): worker.clock.now()}, 1)
        end = PastAuthenticator(worker.clock.now(), EndedBy.OPERATOR)
        await records.past.remember(ACME, UserId("bob"), end)
    await worker.advance(minutes=days * 24 * 60)
    await worker.keep_house()
    assert len(world.tables()[table]) == 1
    await worker.advance(seconds=1)
    await worker.keep_house()
    assert world.tables()[table] == []


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


class TestChallenges:
    async def test_what_nobody_answered_in_time_is_on_record(self, worker, clock):
        created = await worker.create(ALICE, caller=CallerId("soar"))
        await worker.advance(seconds=599)
        await worker.keep_house()
        assert await worker.events(EventKind.CHALLENGE_EXPIRED) == []
        await worker.advance(seconds=2)
        await worker.keep_house()
        await worker.keep_house()
        [event] = await worker.events(EventKind.CHALLENGE_EXPIRED)
        assert (event.caller, event.actor_user_id, event.subject_user_id) == (
            "soar",
            "alice",
            "alice",
        )
        assert event.occurred_at == clock.now()
        assert event.details == {
            "session": ALICE.session_hash,
            "challenge_id": str(created.challenge_id),
            "expires_at": written(created.expires_at),
        }
        view = await worker.read(ALICE, created.challenge_id, may_answer=True)
        assert view.challenge == created.expired(clock.now())

    async def test_it_is_on_record_once_although_workers_keep_house_at_once(self, worker):
        for user in ("alice", "bob"):
            await worker.challenge(person(user))
        await worker.challenge(person(tenant="globex"))
        await worker.advance(minutes=10)
        await asyncio.gather(*(worker.keep_house() for _ in range(4)))
        assert len(await worker.events(EventKind.CHALLENGE_EXPIRED)) == 2
        globex = TenantId("globex")
        assert len(await worker.events(EventKind.CHALLENGE_EXPIRED, tenant=globex)) == 1

    async def test_what_another_call_has_ended_has_not_expired(self, world, worker):
        challenge_id = await worker.challenge(ALICE)
        # Between the search and the record; the clock of the other call is behind.
        now = world.clock.now()
        await worker.advance(minutes=10)

        async def decline():
            async with world.database.transaction() as records:
                found = await records.challenges.find_for_update(ALICE.tenant_id, challenge_id)
                await records.challenges.save(found.declined(now))

        world.database.before_transaction = decline
        await worker.keep_house()
        assert await worker.events(EventKind.CHALLENGE_EXPIRED) == []
        assert (await worker.read(ALICE, challenge_id)).state is ChallengeState.DECLINED

    async def test_one_that_is_gone_has_no_event(self, world, worker):
        await worker.challenge(ALICE)
        await worker.advance(minutes=10)

        async def remove():
            world.sql("DELETE FROM challenge_items")
            world.sql("DELETE FROM challenges")

        world.database.before_transaction = remove
        await worker.keep_house()
        assert await worker.events(EventKind.CHALLENGE_EXPIRED) == []

    async def test_a_day_after_its_end_it_is_removed_and_its_events_stay(self, world, worker):
        await worker.decline(ALICE, await worker.challenge(ALICE))
        await worker.advance(minutes=24 * 60 - 1)
        await worker.keep_house()
        assert len(world.tables()["challenges"]) == 1
        await worker.advance(minutes=1)
        await worker.keep_house()
        tables = world.tables()
        assert tables["challenges"] == tables["challenge_items"] == []
        assert len(await worker.events()) == 2

    async def test_more_than_one_portion_is_put_on_record(self, worker, monkeypatch):
        monkeypatch.setattr(housekeeping, "PORTION", 2)
        for _ in range(5):
            await worker.challenge(ALICE)
        await worker.advance(minutes=10)
        await worker.keep_house()
        assert len(await worker.events(EventKind.CHALLENGE_EXPIRED)) == 5
