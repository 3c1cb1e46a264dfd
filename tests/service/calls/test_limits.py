"""Callers are held to their rates, and by each worker alone while Redis does not answer."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest
import structlog
from prometheus_client import REGISTRY

from stepup.domain.actor import CallerId, TenantId
from stepup.domain.errors import CallerRateLimitedError, OverloadedError
from stepup.domain.rate import Rate
from stepup.service.calls.limits import CallerLimits, TenantShare
from stepup.stores.memory_caller_rates import MemoryCallerRates

SOAR, ACME = CallerId("soar"), TenantId("acme")
RATE = Rate(per_second=0.1, burst=2)
"""No test takes the ten seconds after which Redis lets one more call through."""
ACME, GLOBEX = TenantId("acme"), TenantId("globex")


@pytest.fixture
def limits(worker):
    return worker.application.limits


@pytest.fixture
async def limits_elsewhere(world):
    return (await world.worker()).application.limits


async def spend(limits, number=1, caller=SOAR, tenant=ACME, cost=1):
    """Make calls one after the other; returns which are let through."""
    through = []
    for _ in range(number):
        try:
            await limits.spend(caller, tenant, RATE, cost)
        except CallerRateLimitedError:
            through.append(False)
        else:
            through.append(True)
    return through


def counted(name, **labels):
    return REGISTRY.get_sample_value(f"stepup_caller_rate_{name}_total", labels) or 0


async def test_a_call_over_the_rate_is_refused_with_how_long_to_wait(limits):
    await spend(limits, 2)
    with pytest.raises(CallerRateLimitedError) as refused:
        await limits.spend(SOAR, ACME, RATE, 1)
    assert timedelta() < refused.value.retry_after <= timedelta(seconds=10)


async def test_a_refused_call_is_counted_by_its_caller(limits):
    before = counted("limited", caller=SOAR)
    await spend(limits, 5)
    assert counted("limited", caller=SOAR) == before + 3


async def test_all_workers_count_together(limits, limits_elsewhere):
    assert await spend(limits, 1) == [True]
    assert await spend(limits_elsewhere, 2) == [True, False]
    assert await spend(limits) == [False]


async def test_s17_each_worker_then_counts_by_itself(world, limits, limits_elsewhere):
    world.rates.works = False
    before = counted("unknown")
    assert await spend(limits, 3) == [True, True, False]
    assert await spend(limits_elsewhere, 3) == [True, True, False]
    assert counted("unknown") == before + 6


async def test_s17_a_worker_by_itself_lets_calls_through_at_the_rate(world, clock, limits):
    world.rates.works = False
    await spend(limits, 2)
    for _ in range(5):
        clock.advance(seconds=10)
        assert await spend(limits, 2) == [True, False]


async def test_redis_is_asked_once_a_second_then(world, clock, limits):
    world.rates.works = False
    await spend(limits, 10)
    assert world.rates.asked == 1
    clock.advance(seconds=0.9)
    await spend(limits, 10)
    assert world.rates.asked == 1
    clock.advance(seconds=0.1)
    await spend(limits, 10)
    assert world.rates.asked == 2


class _StandsStill:
    """Never answers."""

    def __init__(self):
        self.asked = 0

    async def spend(self, *_call):
        self.asked += 1
        await asyncio.Event().wait()


async def test_no_call_waits_for_the_one_that_asks_again(world, clock, limits):
    world.rates.works = False
    await spend(limits)
    clock.advance(seconds=1)
    still = world.rates.inner = _StandsStill()
    world.rates.works = True
    asking = asyncio.create_task(spend(limits))
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        others = await spend(limits, 5, tenant=TenantId("umbrella"))
    assert others == [True, True, False, False, False]
    assert still.asked == 1
    asking.cancel()


async def test_once_it_answers_again_all_count_together(world, clock, limits, limits_elsewhere):
    world.rates.works = False
    await spend(limits)
    world.rates.works = True
    clock.advance(seconds=1)
    assert await spend(limits, 2) == [True, True]
    assert await spend(limits_elsewhere) == [False]


async def test_a_loss_and_its_end_are_one_line_each(world, clock, limits):
    with structlog.testing.capture_logs() as lines:
        world.rates.works = False
        for _ in range(3):
            await spend(limits, 3)
            clock.advance(seconds=1)
        world.rates.works = True
        await spend(limits, 3)
    assert [line["event"] for line in lines] == [
        "caller_rates_are_not_shared",
        "caller_rates_are_shared_again",
    ]


async def test_calls_that_fail_together_are_one_loss(world, clock):
    """Each was on its way when the store failed."""
    begun = asyncio.Event()

    class _FailsLate:
        async def spend(self, *_call):
            await begun.wait()
            world.rates.works = False
            await world.rates.spend(*_call)

    limits = CallerLimits(_FailsLate(), MemoryCallerRates(clock), clock)
    with structlog.testing.capture_logs() as lines:
        calls = [asyncio.create_task(spend(limits)) for _ in range(3)]
        await asyncio.sleep(0)
        begun.set()
        assert await asyncio.gather(*calls) == [[True], [True], [False]]
    assert len(lines) == 1


async def crowd(share, number, release):
    """Calls of one tenant that hold their turn until the release; how many had one so far."""
    began = []

    async def call():
        async with share.turn(ACME):
            began.append(1)
            await release.wait()

    tasks = [asyncio.create_task(call()) for _ in range(number)]
    await asyncio.sleep(0)
    return tasks, began


async def test_s18_few_calls_of_a_tenant_run_and_the_others_have_their_turn_later():
    release = asyncio.Event()
    tasks, began = await crowd(TenantShare(2, 3), 5, release)
    assert len(began) == 2
    release.set()
    await asyncio.gather(*tasks)
    assert len(began) == 5


async def test_s18_a_call_beyond_those_that_may_wait_is_refused():
    release = asyncio.Event()
    tasks, _ = await crowd(TenantShare(2, 3), 300, release)
    release.set()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(end, OverloadedError) for end in ended) == 295


async def test_s18_another_tenant_has_its_turn_at_once():
    share, release = TenantShare(1, 1), asyncio.Event()
    tasks, _ = await crowd(share, 2, release)
    async with asyncio.timeout(5), share.turn(GLOBEX):
        pass
    release.set()
    await asyncio.gather(*tasks)


async def test_s18_a_cancelled_call_gives_its_place_back():
    share, release = TenantShare(1, 1), asyncio.Event()
    tasks, _ = await crowd(share, 2, release)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(share.turn(ACME))
        waiting = asyncio.create_task(stack.enter_async_context(share.turn(ACME)))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError):
            await stack.enter_async_context(share.turn(ACME))
        waiting.cancel()
