"""S18: how many attempts there are, and which of them are made."""

import asyncio
from contextlib import suppress

import pytest

from stepup.service.step_up.attempts import Attempts


class Attempt:
    """An attempt that ends when it may, and knows whether it has begun and ended."""

    def __init__(self):
        self.may_end = asyncio.Event()
        self.state = "not begun"

    async def make(self):
        self.state = "begun"
        await self.may_end.wait()
        self.state = "finished"
        return self


def calls_of(attempts, tenant, number):
    made = [Attempt() for _ in range(number)]
    tasks = [asyncio.create_task(attempts.make(tenant, each.make())) for each in made]
    return made, tasks


async def settle():
    for _ in range(10):
        await asyncio.sleep(0)


def begun(made):
    return sum(each.state != "not begun" for each in made)


async def give_up(tasks):
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def finish(made, tasks):
    for each in made:
        each.may_end.set()
    await asyncio.wait(tasks)


async def test_s18_an_attempt_that_has_begun_is_finished_although_its_call_is_gone():
    attempts = Attempts()
    [attempt], tasks = calls_of(attempts, "acme", 1)
    await settle()
    await give_up(tasks)
    assert attempt.state == "begun"
    attempt.may_end.set()
    await attempts.drain()
    assert attempt.state == "finished"


async def test_s18_an_attempt_whose_call_is_gone_before_its_turn_is_not_made():
    attempts = Attempts(limit=4, of_tenant=2)
    made, tasks = calls_of(attempts, "acme", 5)
    await settle()
    await give_up(tasks)
    for each in made:
        each.may_end.set()
    await attempts.drain()
    assert [each.state for each in made] == ["finished"] * 2 + ["not begun"] * 3


async def test_s18_calls_that_are_given_up_make_no_more_attempts_than_there_are_turns():
    attempts = Attempts(limit=3, of_tenant=2)
    made = []
    for tenant in ("acme", "globex", "initech") * 20:
        some, tasks = calls_of(attempts, tenant, 3)
        await settle()
        await give_up(tasks)
        made += some
    assert begun(made) == 3
    for each in made:
        each.may_end.set()
    await attempts.drain()
    assert begun(made) == 3


async def test_s18_one_tenant_leaves_turns_for_others():
    attempts = Attempts(limit=4, of_tenant=2)
    flood, flooding = calls_of(attempts, "evil", 50)
    honest, waiting = calls_of(attempts, "acme", 1)
    await settle()
    assert (begun(flood), begun(honest)) == (2, 1)
    await finish(flood + honest, flooding + waiting)
    assert begun(flood) == 50


@pytest.mark.parametrize("gone", [False, True])
async def test_s18_a_failed_attempt_gives_its_turn_back(gone):
    attempts = Attempts(limit=1, of_tenant=1)

    async def fail():
        await asyncio.sleep(0)
        raise ValueError

    task = asyncio.create_task(attempts.make("acme", fail()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    if gone:
        task.cancel()
    with suppress(asyncio.CancelledError, ValueError):
        await task
    await attempts.drain()
    [attempt], [waiting] = calls_of(attempts, "acme", 1)
    attempt.may_end.set()
    assert await waiting is attempt


async def test_s18_an_attempt_that_is_stopped_itself_gives_its_turn_back():
    attempts = Attempts(limit=1, of_tenant=1)

    async def stopped():
        raise asyncio.CancelledError

    with suppress(asyncio.CancelledError):
        await attempts.make("acme", stopped())
    [attempt], [waiting] = calls_of(attempts, "acme", 1)
    attempt.may_end.set()
    assert await waiting is attempt


async def test_s18_a_call_of_a_tenant_with_turns_left_waits_for_one_of_all():
    attempts = Attempts(limit=1, of_tenant=1)
    first, one = calls_of(attempts, "acme", 1)
    second, other = calls_of(attempts, "globex", 1)
    await settle()
    await give_up(other)
    assert begun(second) == 0
    await finish(first, one)
    third, last = calls_of(attempts, "globex", 1)
    await settle()
    assert begun(third) == 1
    await finish(third, last)
