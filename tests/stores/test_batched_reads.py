"""How the reads of many calls share round trips."""

import asyncio
from collections import deque

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from stepup_tests.spans import CallSpan

from stepup.domain.errors import StoreUnavailableError
from stepup.stores.redis.batched_reads import SLOW_SECONDS, BatchedReads
from stepup.telemetry.spans import at_hand


class Server:
    """Stands in for a client: answers a batch when it is told to, in the order they came."""

    def __init__(self):
        self.batches = []
        self._answers = deque()

    async def mget(self, keys):
        self.batches.append(list(keys))
        answer = asyncio.get_running_loop().create_future()
        self._answers.append(answer)
        return await answer

    def answer(self):
        """Answer the oldest batch: the value of a key is its name."""
        number = len(self.batches) - len(self._answers)
        self._answers.popleft().set_result([key.encode() for key in self.batches[number]])

    def fail(self, error):
        self._answers.popleft().set_exception(error)


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def reads(server):
    return BatchedReads(server)


def begin(reads, *names):
    return [asyncio.create_task(reads.read([name, f"{name}-mark"])) for name in names]


async def turns(number=5):
    for _ in range(number):
        await asyncio.sleep(0)


async def test_reads_of_one_turn_share_a_round_trip_and_each_gets_its_own(reads, server):
    pending = begin(reads, "a", "b", "c")
    await turns()
    assert server.batches == [["a", "a-mark", "b", "b-mark", "c", "c-mark"]]
    server.answer()
    assert await asyncio.gather(*pending) == [[n, n + b"-mark"] for n in (b"a", b"b", b"c")]


async def test_reads_that_arrive_meanwhile_are_the_next_batch(reads, server):
    first = begin(reads, "a")
    await turns()
    second = begin(reads, "b", "c")
    await turns()
    assert len(server.batches) == 1
    server.answer()
    await turns()
    assert server.batches[1:] == [["b", "b-mark", "c", "c-mark"]]
    server.answer()
    assert len(await asyncio.gather(*first, *second)) == 3


async def test_a_slow_batch_does_not_hold_up_what_comes_later(reads, server):
    first = begin(reads, "slow")
    await asyncio.sleep(2 * SLOW_SECONDS)
    second = begin(reads, "b")
    await turns()
    assert server.batches == [["slow", "slow-mark"], ["b", "b-mark"]]
    server.answer()
    server.answer()
    assert len(await asyncio.gather(*first, *second)) == 2


async def test_a_failed_batch_fails_for_its_own_reads_only(reads, server):
    first = begin(reads, "a", "b")
    await turns()
    second = begin(reads, "c")
    await turns()
    server.fail(RedisConnectionError("lost"))
    await turns()
    server.answer()
    for outcome in await asyncio.gather(*first, return_exceptions=True):
        assert type(outcome) is StoreUnavailableError
    assert await asyncio.gather(*second) == [[b"c", b"c-mark"]]


async def test_whatever_goes_wrong_nobody_waits_for_ever(reads, server):
    pending = begin(reads, "a", "b")
    await turns()
    server.fail(ValueError("a bug"))
    outcomes = await asyncio.gather(*pending, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailableError] * 2


async def test_a_call_that_is_given_up_takes_nobody_with_it(reads, server):
    given_up, other = begin(reads, "a", "b")
    await turns()
    given_up.cancel()
    await turns()
    server.answer()
    assert await other == [b"b", b"b-mark"]
    assert given_up.cancelled()


async def test_a_batch_is_part_of_no_call_and_each_call_has_its_own_wait(reads, server):
    spans = [CallSpan() for _ in range(4)]

    async def read(span, name):
        at_hand.set(span)
        return await reads.read([name, f"{name}-mark"])

    async def begin_reads(*pairs):
        pending = [asyncio.create_task(read(span, name)) for span, name in pairs]
        await turns()
        return pending

    first = await begin_reads((spans[0], "a"))
    second = await begin_reads((spans[1], "b"), (spans[2], "c"), (None, "d"))
    server.answer()
    await turns()
    third = await begin_reads((spans[3], "e"))
    server.answer()
    await turns()
    server.fail(RedisConnectionError("lost"))
    await asyncio.gather(*first, *second, *third, return_exceptions=True)
    answered, failed = [("redis", False)], [("redis", True)]
    assert [span.parts for span in spans] == [answered, answered, answered, failed]
