"""One tenant's costly calls wait for each other, and not for another tenant's (S18)."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from stepup.domain.actor import TenantId
from stepup.domain.errors import OverloadedError
from stepup.service.calls.tenant_share import TenantShare

ACME, GLOBEX = TenantId("acme"), TenantId("globex")


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
