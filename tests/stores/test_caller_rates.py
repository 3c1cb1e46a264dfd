"""What `CallerRates` promises, kept in memory, on a fake and on a real server."""

import asyncio
import math
from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.crc import key_slot
from stepup_tests.clock import ManualClock

from stepup.domain.actor import CallerId, TenantId
from stepup.domain.errors import StoreUnavailableError
from stepup.domain.operations import MAX_BATCH
from stepup.domain.rate import Rate
from stepup.stores import memory_caller_rates
from stepup.stores.memory_caller_rates import MemoryCallerRates
from stepup.stores.redis import RedisCallerRates
from stepup.stores.redis.keyspace import rate_key

SOAR, CONSOLE = CallerId("soar"), CallerId("console")
ACME, UMBRELLA = TenantId("acme"), TenantId("umbrella")
SLOW = Rate(per_second=0.1, burst=3)
"""No test takes the ten seconds after which it lets one more call through."""
INTERVAL = timedelta(seconds=10)
MILLISECOND = timedelta(milliseconds=1)


def shared_rates(client):
    """A machine that is busy with other tests makes nobody give up."""
    return RedisCallerRates(client, patience=timedelta(seconds=60))


@pytest.fixture(params=["memory", "fake", "real", "sentinel_client", "cluster_client"])
def rates(request):
    if request.param == "memory":
        return MemoryCallerRates(ManualClock())
    return shared_rates(request.getfixturevalue(request.param))


@pytest.fixture
def fake_rates(fake):
    return shared_rates(fake)


async def spend(rates, number=1, *, caller=SOAR, tenant=ACME, rate=SLOW, cost=1):
    """Make calls one after the other; returns how long each has to wait."""
    return [await rates.spend(caller, tenant, rate, cost) for _ in range(number)]


def is_about(wait, expected):
    """Whether it is this long, less what the calls before took."""
    return expected - timedelta(seconds=5) < wait <= expected


async def test_a_burst_is_let_through_and_the_next_call_is_told_how_long_to_wait(rates):
    *burst, wait = await spend(rates, 4)
    assert burst == [None, None, None]
    assert is_about(wait, INTERVAL)


@pytest.mark.parametrize(
    "other",
    [
        {"caller": CONSOLE},
        {"tenant": UMBRELLA},
        {"rate": Rate(0.1, 4)},
        {"rate": Rate(0.2, 3)},
        {"caller": CallerId("a"), "tenant": TenantId("b")},
    ],
    ids=["caller", "tenant", "burst", "pace", "both"],
)
async def test_each_caller_tenant_and_rate_has_a_bucket_of_its_own(rates, other):
    await spend(rates, 4)
    assert await spend(rates, 1, **other) == [None]


@pytest.mark.race
async def test_of_parallel_calls_exactly_the_burst_is_let_through(rates):
    rate = Rate(per_second=0.1, burst=20)
    waits = await asyncio.gather(*(spend(rates, rate=rate) for _ in range(50)))
    assert Counter(wait is None for [wait] in waits) == {True: 20, False: 30}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rate=st.builds(Rate, st.floats(0.1, 10_000), st.integers(1, 10_000)),
    calls=st.lists(
        st.tuples(st.integers(0, 400), st.integers(1, MAX_BATCH)), min_size=1, max_size=20
    ),
)
async def test_the_script_reckons_as_the_domain_does(fake, advance, rate, calls):
    """A worker that counts for itself has the domain's arithmetic, and the script has its own."""
    await fake.flushall()
    clock = ManualClock()
    redis, memory = shared_rates(fake), MemoryCallerRates(clock)
    for eighths, cost in calls:  # of a second: both clocks stay exact
        advance(timedelta(seconds=eighths / 8))
        clock.advance(seconds=eighths / 8)
        there = await redis.spend(SOAR, ACME, rate, cost)
        assert there == await memory.spend(SOAR, ACME, rate, cost)


async def test_a_server_clock_that_is_set_back_locks_nobody_out(fake_rates, advance):
    await spend(fake_rates, 4)
    advance(-timedelta(days=1))
    assert await spend(fake_rates) == [None]


@pytest.mark.parametrize("cost", [1, MAX_BATCH])
async def test_a_bucket_is_forgotten_once_it_is_full_again(client, cost):
    await spend(shared_rates(client), cost=cost)
    left = await client.pttl(rate_key(SOAR, ACME, SLOW))
    assert cost * 10_000 - 5_000 < left <= cost * 10_000


async def test_a_bucket_is_not_forgotten_before(fake, advance):
    """Else a caller had its burst twice."""
    rates = shared_rates(fake)
    await spend(rates, 3)
    advance(3 * INTERVAL - MILLISECOND)
    assert await fake.exists(rate_key(SOAR, ACME, SLOW))
    advance(2 * MILLISECOND)
    assert not await fake.exists(rate_key(SOAR, ACME, SLOW))


async def test_what_is_stored_has_every_digit_of_the_instant(client):
    await spend(shared_rates(client))
    stored = await client.get(rate_key(SOAR, ACME, SLOW))
    assert stored.isdigit()
    now = await client.time()
    seconds, microseconds = now if isinstance(now, tuple) else now["default"]
    assert math.isclose(int(stored), (seconds + 10) * 10**6 + microseconds, abs_tol=5 * 10**6)


@pytest.mark.parametrize("value", [b"", b"yesterday", b"-1", b"9" * 30])
async def test_a_bucket_that_cannot_be_read_begins_anew(client, value):
    await client.set(rate_key(SOAR, ACME, SLOW), value)
    waits = await spend(shared_rates(client), 4)
    assert [wait is None for wait in waits] == [True, True, True, False]


async def test_a_key_of_another_type_is_a_store_that_does_not_work(client):
    await client.sadd(rate_key(SOAR, ACME, SLOW), "x")
    with pytest.raises(StoreUnavailableError):
        await spend(shared_rates(client))


def test_a_key_is_short_and_shows_nobodys_name():
    key = rate_key(CallerId("c" * 128), TenantId("t" * 128), SLOW)
    assert len(key) <= 17
    assert "ccc" not in key
    assert "ttt" not in key


def test_keys_spread_over_the_slots_of_a_cluster():
    keys = [rate_key(SOAR, TenantId(f"t-{number}"), SLOW) for number in range(100)]
    assert len({key_slot(key.encode()) for key in keys}) > 90


async def test_memory_does_not_grow_without_bound(monkeypatch):
    monkeypatch.setattr(memory_caller_rates, "MAX_BUCKETS", 10)
    rates = MemoryCallerRates(ManualClock())
    for number in range(100):
        await spend(rates, tenant=TenantId(f"t-{number}"))
    assert len(rates._arrivals) <= 10  # noqa: SLF001  # what is kept shows nowhere else
