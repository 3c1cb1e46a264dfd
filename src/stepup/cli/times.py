"""Times as people type them in options, and instants as commands print them."""

import re
from datetime import UTC, datetime, time, timedelta
from typing import Final

from stepup.cli.output import failure, write_problem

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DURATION: Final = re.compile(r"([0-9]{1,9})([smhdw])", re.ASCII)
TIME_OF_DAY: Final = re.compile(r"[0-9]{2}:[0-9]{2}(:[0-9]{2})?", re.ASCII)
FORMS: Final = "2026-03-01, 2026-03-01T10:05:00Z, 10:05 or 2h (ago)"
"""Examples of each form of an instant, for the help of an option."""


class TimeTextError(ValueError):
    """The text is neither an instant nor a duration."""


def instant_of(text: str, now: datetime) -> datetime:
    """Read an instant that a person typed.

    Without an offset the text is in UTC. A time of day is the latest one that is not after `now`,
    so the command should print the result. A date is its first moment.

    Args:
        text: an instant of ISO 8601, a time of day (`10:05`), or how long ago (`90s`, `2h`, `7d`).
        now: the present moment, with its time zone.

    Raises:
        TimeTextError: the text has none of these forms.
    """
    text = text.strip()
    try:
        if _DURATION.fullmatch(text):
            return now - duration_of(text)
        if TIME_OF_DAY.fullmatch(text):
            latest = datetime.combine(now.astimezone(UTC), time.fromisoformat(text), UTC)
            return latest if latest <= now else latest - timedelta(days=1)
        instant = datetime.fromisoformat(text)
        return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise TimeTextError(f"must be an instant, such as {FORMS}, and is {text!r}") from error


def duration_of(text: str) -> timedelta:
    """Read a duration: a whole number and one of the units `s`, `m`, `h`, `d` and `w`.

    Raises:
        TimeTextError: the text is not such a duration, or it is too long.
    """
    if not (found := _DURATION.fullmatch(text.strip())):
        raise TimeTextError(f"must be a duration, such as 90s, 5m, 2h or 7d, and is {text!r}")
    try:
        return timedelta(**{_UNITS[found[2]]: int(found[1])})
    except OverflowError as error:
        raise TimeTextError(f"must be a shorter duration than {text!r}") from error


def shown(instant: datetime) -> str:
    """The instant as commands print it: UTC, ISO 8601, whole seconds."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def in_words(duration: timedelta) -> str:
    """A duration by its largest unit, rounded down, such as `35 days`."""
    seconds = int(duration.total_seconds())
    for unit in ("days", "hours", "minutes"):
        if number := seconds // int(timedelta(**{unit: 1}).total_seconds()):
            return f"{number} {unit if number > 1 else unit[:-1]}"
    return "less than a minute"


def instant_option(
    option: str, text: str | None, *, is_shown_always: bool = False
) -> datetime | None:
    """Read the instant of an option; None if the option was not given.

    Standard error shows the instant of a text without an offset, and with `is_shown_always` any.

    Raises:
        typer.Exit: the text is not an instant; status 2.
    """
    if text is None:
        return None
    try:
        instant = instant_of(text, datetime.now(UTC))
    except TimeTextError as error:
        raise failure(f"{option} {error}") from error
    if is_shown_always or not _has_offset(text):
        write_problem(f"{option} {shown(instant)}")
    return instant


def _has_offset(text: str) -> bool:
    try:
        return datetime.fromisoformat(text.strip()).tzinfo is not None
    except ValueError:
        return False
