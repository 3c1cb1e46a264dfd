"""What many numbers come to."""

import pytest

from tools.bench.figures import Latencies, paired_ratio, percentile, spread


@pytest.mark.parametrize(
    ("values", "percent", "wanted"),
    [([5], 99, 5), ([3, 1, 2], 50, 2), (range(1, 101), 99, 99), (range(1, 101), 50, 50)],
)
def test_a_percentile_is_one_of_the_values(values, percent, wanted):
    assert percentile(values, percent) == wanted


def test_one_slow_call_in_a_thousand_is_not_in_the_p99():
    assert Latencies.of([1.0] * 999 + [500.0]) == Latencies(p50_ms=1.0, p99_ms=1.0)


def test_a_spread_is_a_share_of_the_median():
    assert spread([90, 100, 110]) == pytest.approx(0.2)


def test_a_ratio_is_taken_run_by_run():
    # The machine was twice as fast in the last run: the ratio is the same.
    assert paired_ratio([30, 33, 60], [10, 11, 20]) == pytest.approx(3)
