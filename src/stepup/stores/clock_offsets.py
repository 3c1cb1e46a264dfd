"""How far the clock of a store is from ours: for all kinds of store."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from stepup.service.ports import Clock

_READINGS = 3


async def clock_offset(read: Callable[[], Awaitable[datetime]], clock: Clock) -> timedelta:
    """How far a store's clock is ahead of ours; negative if it is behind.

    Of several readings the fastest counts. The store read its clock at some time within that round
    trip, so the result is wrong by half of the round trip at most (RFC 5905, section 8).

    Args:
        read: asks the store for its time, which is aware.
        clock: ours.
    """
    readings = []
    for _ in range(_READINGS):
        began, ours = clock.monotonic(), clock.now()
        theirs = await read()
        round_trip = timedelta(seconds=clock.monotonic() - began)
        readings.append((round_trip, theirs - ours - round_trip / 2))
    return min(readings)[1]
