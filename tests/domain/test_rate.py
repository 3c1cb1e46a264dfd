import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepup.domain.errors import InvalidValueError
from stepup.domain.operations import MAX_BATCH
from stepup.domain.rate import Rate

NOW = 1_767_268_805_000_000
SECOND = 1_000_000

rates = st.builds(Rate, st.floats(0.1, 10_000), st.integers(1, 10_000))
costs = st.integers(1, MAX_BATCH)


def made(rate, calls, arrival=0):
    """What becomes of calls, each given as its time and its cost: how long each has to wait."""
    waits = []
    for now, cost in calls:
        arrival, wait = rate.spend(arrival, now, cost)
        waits.append(wait)
    return waits


def at_once(number, cost=1):
    return [(NOW, cost)] * number


@pytest.mark.parametrize("per_second", [0.1, 10_000])
@pytest.mark.parametrize("burst", [1, 10_000])
def test_a_rate_reaches_to_its_limits(per_second, burst):
    assert Rate(per_second, burst).burst == burst


@pytest.mark.parametrize(
    ("per_second", "burst", "said"),
    [
        (0.09, 1, "per_second"),
        (0, 1, "per_second"),
        (-1, 1, "per_second"),
        (10_001, 1, "per_second"),
        (math.nan, 1, "per_second"),
        (math.inf, 1, "per_second"),
        (1, 0, "burst"),
        (1, 10_001, "burst"),
    ],
)
def test_a_rate_beyond_its_limits_is_refused(per_second, burst, said):
    with pytest.raises(InvalidValueError, match=said):
        Rate(per_second, burst)


def test_a_burst_may_be_made_at_once_and_no_call_more():
    assert made(Rate(50, 3), at_once(4)) == [0, 0, 0, SECOND // 50]


def test_a_call_that_was_refused_spends_nothing():
    later = NOW + SECOND // 50
    assert made(Rate(50, 3), [*at_once(100), (later, 1)])[-1] == 0


@given(per_second=st.floats(0.1, 10_000), burst=st.integers(1, MAX_BATCH), cost=costs)
def test_the_wait_is_exactly_what_is_needed(per_second, burst, cost):
    rate = Rate(per_second, burst)
    arrival, _ = rate.spend(0, NOW, MAX_BATCH)
    _, wait = rate.spend(arrival, NOW, cost)
    assert wait > 0
    assert rate.spend(arrival, NOW + wait, 1)[1] == 0
    assert rate.spend(arrival, NOW + wait - 1, 1)[1] == 1


def test_after_a_pause_the_whole_burst_may_be_made_and_no_more():
    later = NOW + 3600 * SECOND
    waits = made(Rate(50, 3), [*at_once(3), *[(later, 1)] * 4])
    assert waits[3:] == [0, 0, 0, SECOND // 50]


@given(
    rate=rates,
    calls=st.lists(st.tuples(st.integers(0, 30 * SECOND), costs), min_size=1, max_size=100),
)
def test_within_no_span_more_is_let_through_than_the_burst_the_rate_and_one_batch(rate, calls):
    now, arrival, passed = NOW, 0, []
    for pause, cost in calls:
        now += pause
        arrival, wait = rate.spend(arrival, now, cost)
        if not wait:
            passed.append((now, cost))
    for first, (begin, _) in enumerate(passed):
        total = 0
        for end, cost in passed[first:]:
            total += cost
            assert total < rate.burst + (end - begin) / rate.interval + MAX_BATCH


def test_a_batch_beyond_the_burst_is_let_through_and_later_calls_wait_for_it():
    assert made(Rate(50, 10), [(NOW, 100), (NOW, 1)]) == [0, 91 * SECOND // 50]


@pytest.mark.parametrize("step", [SECOND, 30 * SECOND, 3600 * SECOND])
def test_a_clock_that_is_set_back_locks_out_for_no_longer_than_calls_can(step):
    rate = Rate(50, 100)
    arrival, _ = rate.spend(0, NOW, 100)
    _, wait = rate.spend(arrival, NOW - step, 1)
    assert wait <= rate.horizon - rate.tolerance


def test_what_calls_can_have_stored_is_believed_to_the_last_microsecond():
    rate = Rate(50, 100)
    arrival = NOW + rate.horizon
    assert made(rate, [(NOW, 1)], arrival) == [MAX_BATCH * rate.interval]
    assert made(rate, [(NOW - 1, 1)], arrival) == [0]


@pytest.mark.parametrize(
    ("per_second", "interval"), [(0.1, 10 * SECOND), (3, 333_334), (50, 20_000), (10_000, 100)]
)
def test_the_interval_is_rounded_to_the_slower_side(per_second, interval):
    assert Rate(per_second, 1).interval == interval


@given(rate=rates)
def test_all_that_is_reckoned_with_is_exact_as_a_double(rate):
    assert NOW + rate.horizon + MAX_BATCH * rate.interval < 2**53
