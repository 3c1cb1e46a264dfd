"""Times as people type them in options."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from stepup.cli.times import TimeTextError, duration_of, instant_of, shown

NOW = datetime(2026, 3, 1, 10, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2026-02-28", "2026-02-28T00:00:00Z"),
        ("2026-02-28T09:00:00Z", "2026-02-28T09:00:00Z"),
        ("2026-02-28 09:00", "2026-02-28T09:00:00Z"),
        ("2026-02-28T09:00:00+09:00", "2026-02-28T00:00:00Z"),
        ("10:05", "2026-03-01T10:05:00Z"),
        ("10:30", "2026-03-01T10:30:00Z"),
        ("10:31", "2026-02-28T10:31:00Z"),
        (" 10:05:09 ", "2026-03-01T10:05:09Z"),
        ("2h", "2026-03-01T08:30:00Z"),
        ("90s", "2026-03-01T10:28:30Z"),
        ("7d", "2026-02-22T10:30:00Z"),
    ],
)
def test_a_text_is_an_instant(text, wanted):
    assert shown(instant_of(text, NOW)) == wanted


def test_a_time_of_day_is_of_utc_wherever_the_machine_stands():
    tokyo = NOW.astimezone(timezone(timedelta(hours=9)))
    assert instant_of("10:05", tokyo) == instant_of("10:05", NOW)


@pytest.mark.parametrize(
    "text", ["", "yesterday", "25:00", "10:5", "-2h", "2 h", "999999999w", "2026-13-01", "٣h", "1"]
)
def test_other_texts_are_refused_with_examples(text):
    with pytest.raises(TimeTextError, match="must be an instant, such as 2026-03-01"):
        instant_of(text, NOW)


def test_a_text_is_a_duration():
    assert duration_of("5m") == timedelta(minutes=5)
    for text in ("5", "m", "1.5h", "999999999w"):
        with pytest.raises(TimeTextError):
            duration_of(text)
