"""What two workers are worth beside one."""

import pytest

from tools.bench.workers import CAPACITY, Effort, Run, document


@pytest.mark.parametrize(
    ("cpu_us", "capacity", "met"),
    [(80.0, 2.0, True), (88.0, 1.818, True), (100.0, 1.6, False)],
)
def test_what_a_call_costs_more_is_taken_from_two(cpu_us, capacity, met):
    runs = {1: [Run(9000, 80.0)] * 3, 2: [Run(12000, cpu_us)] * 3}
    found = document(runs, Effort(repetitions=3, calls=100), {})
    assert found["ratios"][CAPACITY] == capacity
    assert list(found["met"].values()) == [met]
