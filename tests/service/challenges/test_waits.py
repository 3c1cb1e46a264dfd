"""AwaitChallenge: when a wait sends something, when it ends, and what it leaves behind."""

import asyncio
import gc
import weakref
from contextlib import aclosing, asynccontextmanager
from uuid import UUID

import pytest
from stepup_tests.challenges import challenge_of
from stepup_tests.metrics import metric
from stepup_tests.people import CALLER, person
from structlog.testing import capture_logs

from stepup.domain.actor import CallerId
from stepup.domain.challenge import Challenge, ChallengeState
from stepup.domain.errors import (
    ChallengeStateError,
    DrainingError,
    StoreUnavailableError,
    WaitingLimitError,
)
from stepup.service.challenges import waits
from stepup.service.step_up.revocation import Scope

ALICE, BOB = person("alice"), person("bob")
PENDING, DECLINED = ChallengeState.PENDING, ChallengeState.DECLINED
OTHER = CallerId("another-service")


class Waiting:
    """A wait that has sent the pending challenge, and sends more in the background."""

    def __init__(self, views):
        self._views = views
        self._next = asyncio.ensure_future(anext(views))

    @classmethod
    async def began(cls, worker, challenge_id, **options):
        wait = cls(worker.wait(ALICE, challenge_id, **options))
        assert await wait.next_state() is PENDING
        await asyncio.sleep(0)
        return wait

    async def is_silent(self):
        """Whether nothing is sent, though everything that can run does."""
        await asyncio.sleep(0.05)
        return not self._next.done()

    async def next_state(self):
        async with asyncio.timeout(10):
            view = await self._next
        self._next = asyncio.ensure_future(anext(self._views))
        return view.state

    async def has_ended(self):
        async with asyncio.timeout(10):
            await asyncio.wait([self._next])
        return isinstance(self._next.exception(), StopAsyncIteration)

    async def error(self):
        async with asyncio.timeout(10):
            await asyncio.wait([self._next])
        return self._next.exception()

    async def give_up(self):
        self._next.cancel()
        await asyncio.wait([self._next])
        await self._views.aclose()


@pytest.fixture
async def other(world):
    """Another worker of the deployment."""
    return await world.worker()


@pytest.fixture
async def challenge_id(worker):
    return await worker.challenge(ALICE)


async def test_a_challenge_that_is_not_pending_is_sent_once(worker, challenge_id):
    await worker.decline(ALICE, challenge_id)
    async with aclosing(worker.wait(ALICE, challenge_id)) as views:
        assert [view.state async for view in views] == [DECLINED]


async def test_what_the_same_worker_does_ends_a_wait_at_once(worker, challenge_id):
    wait = await Waiting.began(worker, challenge_id)
    await worker.decline(ALICE, challenge_id)
    assert await wait.next_state() is DECLINED
    assert await wait.has_ended()


async def test_an_approval_ends_a_wait_at_once(worker, clock, challenge_id):
    app = await worker.enrol(ALICE)
    wait = await Waiting.began(worker, challenge_id)
    await worker.answer(ALICE, challenge_id, app.code(clock.now()))
    assert await wait.next_state() is ChallengeState.APPROVED


@pytest.mark.parametrize("scope", Scope)
async def test_a_revocation_ends_a_wait_at_once(worker, challenge_id, scope):
    wait = await Waiting.began(worker, challenge_id)
    await worker.revoke(ALICE, scope)
    assert await wait.next_state() is ChallengeState.REVOKED


async def test_a_cancellation_ends_a_wait_at_once(worker, challenge_id):
    wait = await Waiting.began(worker, challenge_id)
    await worker.cancel_challenge(ALICE, challenge_id)
    assert await wait.next_state() is ChallengeState.CANCELLED


async def test_what_another_worker_does_is_found_by_the_next_poll(worker, other, challenge_id):
    wait = await Waiting.began(worker, challenge_id)
    await other.decline(ALICE, challenge_id)
    assert await wait.is_silent()
    await worker.waits.poll()
    assert await wait.next_state() is DECLINED
    assert await wait.has_ended()


async def test_an_approval_that_another_worker_wrote_is_found(world, worker, challenge_id):
    wait = await Waiting.began(worker, challenge_id)
    approved = challenge_of(ALICE, ChallengeState.APPROVED, at=world.clock.now())
    async with world.database.transaction(ALICE.tenant_id) as records:
        found = await records.challenges.find_for_update(ALICE.tenant_id, challenge_id)
        approval = approved.approval
        await records.challenges.save(
            found.approved(approval.verified_at, approval.session_hash, approval.enrollment_id)
        )
    await worker.waits.poll()
    assert await wait.next_state() is ChallengeState.APPROVED
    assert await wait.has_ended()


async def test_another_challenge_of_the_user_does_not_end_a_wait(worker, challenge_id):
    wait = await Waiting.began(worker, challenge_id)
    await worker.decline(ALICE, await worker.challenge(ALICE))
    assert await wait.is_silent()
    await worker.decline(ALICE, challenge_id)
    assert await wait.next_state() is DECLINED


async def test_all_who_wait_for_a_challenge_learn_its_end(worker, challenge_id):
    waiting = [await Waiting.began(worker, challenge_id) for _ in range(3)]
    await worker.decline(ALICE, challenge_id)
    assert [await each.next_state() for each in waiting] == [DECLINED] * 3


async def test_an_end_while_the_first_state_is_being_sent_is_not_lost(
    world, worker, clock, challenge_id
):
    async with aclosing(worker.wait(ALICE, challenge_id)) as views:
        assert (await anext(views)).state is PENDING
        await worker.decline(ALICE, challenge_id)
        world.database.reads = False
        clock.advance(seconds=60)
        await worker.waits.poll()
        world.database.reads = True
        async with asyncio.timeout(10):
            assert (await anext(views)).state is DECLINED


async def test_a_challenge_expires_for_those_who_wait(worker, clock, challenge_id):
    wait = await Waiting.began(worker, challenge_id)
    clock.advance(minutes=9)
    await worker.waits.poll()
    assert await wait.next_state() is PENDING
    clock.advance(minutes=1)
    await worker.waits.poll()
    assert await wait.next_state() is ChallengeState.EXPIRED
    assert await wait.has_ended()


async def test_the_state_is_repeated_each_minute(worker, clock, challenge_id):
    wait = await Waiting.began(worker, challenge_id)
    for _ in range(3):
        clock.advance(seconds=59)
        await worker.waits.poll()
        assert await wait.is_silent()
        clock.advance(seconds=1)
        await worker.waits.poll()
        assert await wait.next_state() is PENDING


async def test_a_wait_outlasts_a_database_that_does_not_answer_for_a_while(
    world, worker, other, clock, challenge_id
):
    wait = await Waiting.began(worker, challenge_id)
    await other.decline(ALICE, challenge_id)
    with capture_logs() as lines:
        world.database.reads = False
        for _ in range(5):
            clock.advance(seconds=1)
            await worker.waits.poll()
    assert [line["event"] for line in lines] == ["challenges_not_polled"]
    assert await wait.is_silent()
    world.database.reads = True
    await worker.waits.poll()
    assert await wait.next_state() is DECLINED


async def test_a_state_that_cannot_be_read_is_not_repeated(world, worker, clock, challenge_id):
    wait = await Waiting.began(worker, challenge_id)
    world.database.reads = False
    clock.advance(seconds=60)
    await worker.waits.poll()
    assert isinstance(await wait.error(), StoreUnavailableError)


async def test_a_challenge_that_a_fail_over_has_lost_ends_the_wait(world, worker, challenge_id):
    wait = await Waiting.began(worker, challenge_id)
    world.sql("DELETE FROM challenge_items")
    world.sql("DELETE FROM challenges")
    await worker.waits.poll()
    assert isinstance(await wait.error(), ChallengeStateError)


async def test_s18_nothing_is_polled_while_nobody_waits(world, worker, challenge_id):
    wait = await Waiting.began(worker, challenge_id)
    await worker.waits.poll()
    await wait.give_up()
    before = world.database.snapshots
    await worker.waits.poll()
    assert world.database.snapshots == before


async def test_a_drain_ends_waits_and_refuses_further_ones(worker, other, challenge_id):
    wait = await Waiting.began(worker, challenge_id)
    worker.waits.end_all()
    assert isinstance(await wait.error(), DrainingError)
    with pytest.raises(DrainingError):
        await anext(worker.wait(ALICE, challenge_id))
    # The client waits at another worker.
    await other.decline(ALICE, challenge_id)
    assert (await anext(other.wait(ALICE, challenge_id))).state is DECLINED


async def test_a_wait_that_begins_while_the_server_stops_ends_as_well(
    monkeypatch, worker, challenge_id
):
    read = worker.waits._read  # noqa: SLF001  # the only moment between the two

    async def read_and_stop(*arguments, **options):
        view = await read(*arguments, **options)
        worker.waits.end_all()
        return view

    monkeypatch.setattr(worker.waits, "_read", read_and_stop)
    views = worker.wait(ALICE, challenge_id)
    assert (await anext(views)).state is PENDING
    with pytest.raises(DrainingError):
        async with asyncio.timeout(10):
            await anext(views)


async def test_s26_the_waits_of_a_caller_are_limited(monkeypatch, worker, challenge_id):
    monkeypatch.setattr(waits, "MAX_OF_CALLER", 2)
    waiting = [await Waiting.began(worker, challenge_id) for _ in range(2)]
    before = metric("stepup_challenge_waits_refused_total", caller=CALLER)
    with pytest.raises(WaitingLimitError):
        await anext(worker.wait(ALICE, challenge_id))
    assert metric("stepup_challenge_waits_refused_total", caller=CALLER) == before + 1
    await Waiting.began(worker, challenge_id, caller=OTHER, may_answer=True)
    await waiting[0].give_up()
    await Waiting.began(worker, challenge_id)


async def test_s19_only_those_who_may_read_a_challenge_wait_for_it(worker, challenge_id):
    for actor, wanted, options in (
        (BOB, challenge_id, {"may_answer": True}),
        (ALICE, challenge_id, {"caller": OTHER}),
        (ALICE, UUID(int=1), {}),
    ):
        with pytest.raises(ChallengeStateError) as refused:
            await anext(worker.wait(actor, wanted, **options))
        assert refused.value.state is None
    assert metric("stepup_challenge_waits") == 0


@pytest.mark.parametrize("end", ["given up", "answered", "drained"])
async def test_a_wait_leaves_nothing_behind(world, worker, challenge_id, end):
    views = worker.wait(ALICE, challenge_id)
    gone = weakref.ref(views)
    wait = Waiting(views)
    assert await wait.next_state() is PENDING
    await asyncio.sleep(0)
    assert metric("stepup_challenge_waits") == 1
    if end == "answered":
        await worker.decline(ALICE, challenge_id)
        assert await wait.next_state() is DECLINED
        assert await wait.has_ended()
    elif end == "drained":
        worker.waits.end_all()
        await wait.error()
    else:
        await wait.give_up()
    assert metric("stepup_challenge_waits") == 0
    del wait, views
    gc.collect()
    assert gone() is None
    before = world.database.snapshots
    await worker.waits.poll()
    assert world.database.snapshots == before


async def test_s18_a_wait_keeps_no_challenge_in_memory(worker, challenge_id):
    wait = await Waiting.began(worker, challenge_id)
    gc.collect()
    kept = [each for each in gc.get_objects() if isinstance(each, Challenge)]
    assert not [each for each in kept if each.challenge_id == challenge_id]
    await wait.give_up()


async def test_s18_waits_that_end_together_read_few_at_a_time(world, worker, challenge_id):
    """So that checks do not wait for many of them."""
    waiting = [await Waiting.began(worker, challenge_id) for _ in range(8)]
    reading = most = 0
    snapshot = world.database.snapshot

    @asynccontextmanager
    async def counted(tenant_id=None):
        nonlocal reading, most
        reading += 1
        most = max(most, reading)
        async with snapshot(tenant_id) as records:
            yield records
        reading -= 1

    world.database.snapshot = counted
    await worker.decline(ALICE, challenge_id)
    assert [await each.next_state() for each in waiting] == [DECLINED] * 8
    assert most == 1
