"""The processes that answer browsers on one socket."""

from itertools import accumulate, repeat

from stepup.web.workers import pause_before_next


def test_workers_that_cannot_run_are_started_less_and_less_often():
    pauses = list(accumulate(repeat(0.5, 8), pause_before_next, initial=0.0))
    assert pauses[1:] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_worker_that_served_for_long_is_replaced_soon():
    assert pause_before_next(60.0, lived=3600.0) == 1
