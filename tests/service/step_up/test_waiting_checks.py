"""What counts that comes while a call waits for another one, on a real PostgreSQL (S10)."""

import asyncio
from contextlib import asynccontextmanager
from uuid import UUID

import pytest
from sqlalchemy import NullPool, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from stepup_tests.challenges import approve
from stepup_tests.e2e.sql import executed
from stepup_tests.otp import code_at
from stepup_tests.people import person
from stepup_tests.postgres import new_database, postgres, postgres_template
from stepup_tests.worker import OSQUERY
from stepup_tests.world import world_on

from stepup.domain.audit import EventKind
from stepup.domain.decision import Decision, Reason
from stepup.domain.item_use import ChallengeRejection
from stepup.domain.receipts import ReceiptRejection
from stepup.service.step_up.revocation import Scope

__all__ = ["postgres", "postgres_template"]

ALICE = person()
REDEEM = """
    INSERT INTO redemptions (tenant_id, decision_id, forget_at)
    VALUES ('acme', :decision_id, now() + interval '1 day')
"""
WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


@pytest.fixture
async def url(postgres, postgres_template):
    async with new_database(postgres, postgres_template) as url:
        yield url


@pytest.fixture
async def world(url, tmp_path):
    async with world_on(url, tmp_path) as world:
        yield world


@pytest.fixture
async def answers(worker):
    """Of an elevated session, on two hosts."""
    await worker.select(OSQUERY)
    await worker.elevate(ALICE, await worker.enrol(ALICE))
    return await worker.check_all(ALICE, [(OSQUERY, "host-1"), (OSQUERY, "host-2")])


@asynccontextmanager
async def waiting_for(url, answer, call):
    """Begin a call that waits for a redemption of the answer's receipt, which is not committed."""
    engine = create_async_engine(make_url(url), poolclass=NullPool)
    async with engine.connect() as other:
        await other.execute(text(REDEEM), {"decision_id": answer.decision_id})
        task = asyncio.create_task(call)
        while await executed(url, WAITING) != [(1,)]:
            assert not task.done()
        yield other, task


async def test_s10_a_retry_is_refused_whose_receipt_is_revoked_while_it_waits(worker, url, answers):
    retry = worker.retry(ALICE, answers[0].receipt)
    async with waiting_for(url, answers[0], retry) as (other, waiting):
        await worker.revoke(ALICE, Scope.USER)
        await other.rollback()
        verdict = (await waiting).verdict

    assert verdict.decision is Decision.STEP_UP_REQUIRED
    assert verdict.receipt_rejection is ReceiptRejection.REVOKED
    assert await worker.events(EventKind.RECEIPT_REDEEMED) == []
    assert await executed(url, "SELECT FROM redemptions") == []


async def test_s10_a_receipt_counts_no_more_that_is_revoked_while_the_next_one_waits(
    worker, url, answers
):
    checks = [(OSQUERY, f"host-{n}", answers[n - 1].receipt) for n in (1, 2)]
    batch = worker.check_all(ALICE, checks)
    async with waiting_for(url, answers[1], batch) as (other, waiting):
        await worker.revoke(ALICE, Scope.USER)
        await other.rollback()
        verdicts = [answer.verdict for answer in await waiting]

    assert [each.receipt_rejection for each in verdicts] == 2 * [ReceiptRejection.REVOKED]
    assert await worker.events(EventKind.RECEIPT_REDEEMED) == []


async def test_s10_no_check_of_a_batch_rests_on_an_elevation_that_ends_while_one_waits(
    world, worker, url, answers
):
    """The receipt turns out to be used, so that the batch redeems nothing itself."""
    decided = len(world.decisions())
    checks = [(OSQUERY, "a"), (OSQUERY, "host-1", answers[0].receipt), (OSQUERY, "b")]
    batch = worker.check_all(ALICE, checks)
    async with waiting_for(url, answers[0], batch) as (other, waiting):
        await worker.revoke(ALICE)
        await other.commit()
        verdicts = [answer.verdict for answer in await waiting]

    assert [each.reason for each in verdicts] == 3 * [Reason.NOT_ELEVATED]
    assert verdicts[1].receipt_rejection is ReceiptRejection.ALREADY_USED
    assert len(world.decisions()) == decided + 3


async def begun_while_the_trail_is_locked(url, *calls):
    """Begin calls one after the other, each of which waits for the audit trail or for the others.

    Returns:
        Their results or errors, after the trail is free again.
    """
    tasks = []
    async with create_async_engine(make_url(url), poolclass=NullPool).connect() as other:
        await other.execute(text("SELECT FROM audit_heads FOR UPDATE"))
        for number, call in enumerate(calls, start=1):
            tasks.append(asyncio.create_task(call))
            while await executed(url, WAITING) != [(number,)]:
                assert not tasks[-1].done()
    return await asyncio.gather(*tasks)


@pytest.fixture
async def alice(worker):
    """Presents an approved challenge for host-1."""
    await worker.select(OSQUERY)
    return await approve(worker, ALICE, await worker.enrol(ALICE))


@pytest.mark.parametrize(
    ("end", "rejection"),
    [
        (lambda worker, _: worker.revoke(ALICE, Scope.USER), ChallengeRejection.REVOKED),
        (lambda worker, _: worker.revoke(ALICE), ChallengeRejection.REVOKED),
        (
            lambda worker, alice: worker.cancel_challenge(alice, alice.challenge_id),
            ChallengeRejection.CANCELLED,
        ),
    ],
    ids=["revocation", "sign-out", "cancellation"],
)
async def test_s10_s19_an_item_allows_nothing_whose_challenge_ends_while_its_use_waits(
    worker, url, alice, end, rejection
):
    _, answer = await begun_while_the_trail_is_locked(url, end(worker, alice), worker.check(alice))
    assert answer.verdict.reason is Reason.NOT_ELEVATED
    assert answer.verdict.challenge_rejection is rejection
    assert await worker.events(EventKind.CHALLENGE_ITEM_USED) == []


@pytest.mark.parametrize("request_id", [UUID(int=1), None])
async def test_s19_a_use_that_waits_for_another_one_finds_the_item_used(
    worker, url, alice, request_id
):
    first, second = await begun_while_the_trail_is_locked(
        url, *(worker.check(alice, request_id=request_id) for _ in range(2))
    )
    assert first.verdict.reason is Reason.CHALLENGE_APPROVED
    if request_id is None:
        assert second.verdict.challenge_rejection is ChallengeRejection.ITEM_USED
    else:
        assert second == first
    assert len(await worker.events(EventKind.CHALLENGE_ITEM_USED)) == 1


@pytest.mark.parametrize("scope", Scope)
async def test_s10_a_revocation_voids_the_first_enrollment_that_it_waited_for(
    worker, url, clock, scope
):
    """The revocation was received first, and there was no authenticator yet."""
    await worker.select(OSQUERY)
    screen = await worker.begin(ALICE)
    await worker.confirm(ALICE, code_at(screen.secret.octets, clock.now()))
    received_before = worker.context(ALICE)
    clock.advance(seconds=1)
    completion, _ = await begun_while_the_trail_is_locked(
        url,
        worker.complete(ALICE),
        worker.application.handlers.step_up.revoke(received_before, scope),
    )

    assert completion.authenticator.enrollment_id == screen.enrollment_id
    assert (await worker.check(ALICE)).verdict.reason is Reason.NOT_ELEVATED
