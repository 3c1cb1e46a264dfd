"""Instants as whole microseconds since the epoch: exact, unlike floats, and ordered as they are."""

from datetime import UTC, datetime, timedelta
from typing import Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)


def microseconds(instant: datetime) -> int:
    """How many have passed since the epoch; negative before it."""
    return (instant - EPOCH) // MICROSECOND


def instant_at(microseconds: int) -> datetime:
    """The instant so many after the epoch, in UTC.

    Raises:
        OverflowError: it is before year 1 or after year 9999.
    """
    return EPOCH + microseconds * MICROSECOND
