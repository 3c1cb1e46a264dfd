"""Log lines about events that repeat: at once, and then at intervals with a count."""

from stepup_tests.clock import ManualClock

from stepup.telemetry import limited_lines
from stepup.telemetry.limited_lines import LimitedLines


def test_each_kind_has_a_line_at_once_and_then_one_in_each_interval(monkeypatch):
    clock = ManualClock()
    monkeypatch.setattr(limited_lines, "time", clock)
    lines = LimitedLines(60)
    assert [lines.count(each) for each in ("refused", "loading", "refused")] == [1, 1, 0]
    clock.advance(seconds=59)
    assert lines.count("refused", 5) == 0
    clock.advance(seconds=1)
    assert [lines.count(each) for each in ("refused", "loading", "refused")] == [7, 1, 0]


def test_kinds_that_differ_each_time_fill_no_memory(monkeypatch):
    clock = ManualClock()
    monkeypatch.setattr(limited_lines, "time", clock)
    lines = LimitedLines(60)
    for number in range(100):
        clock.advance(seconds=30)
        assert lines.count(f"problem {number}") == 1
    assert sum(map(len, (each for each in vars(lines).values() if isinstance(each, dict)))) <= 2
