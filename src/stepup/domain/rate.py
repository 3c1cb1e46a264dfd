"""How often a caller may call: the generic cell rate algorithm (ITU-T I.371, virtual scheduling).

It is a bucket of `burst` calls that fills up by `per_second`, and all it needs to remember is one
instant: the *arrival* at which the calls made so far would have come at an even pace. The bucket is
full once that instant has passed, and empty when it lies a whole burst ahead.

Times are whole microseconds since an epoch of the store's own. Today's are below 2^51, so that a
store whose numbers are doubles, exact up to 2^53, counts alike.
"""

import math
from typing import Final

from stepup.domain.errors import InvalidValueError
from stepup.domain.operations import MAX_BATCH
from stepup.domain.values import value

MIN_PER_SECOND: Final = 0.1
MAX_PER_SECOND: Final = 10_000
MAX_BURST: Final = 10_000
_SECOND = 1_000_000


@value
class Rate:
    """How many calls per second, and how many at once after a pause.

    The limits keep what a store remembers short: a bucket is full again within a day or so.

    Raises:
        InvalidValueError: one of the two is out of its limits.
    """

    per_second: float
    burst: int

    def __post_init__(self) -> None:
        if not MIN_PER_SECOND <= self.per_second <= MAX_PER_SECOND:
            raise InvalidValueError(
                f"must have per_second from {MIN_PER_SECOND} to {MAX_PER_SECOND}"
            )
        if not 1 <= self.burst <= MAX_BURST:
            raise InvalidValueError(f"must have a burst from 1 to {MAX_BURST}")

    @property
    def interval(self) -> int:
        """Microseconds from one call to the next at an even pace; never less than the rate says."""
        return math.ceil(_SECOND / self.per_second)

    @property
    def tolerance(self) -> int:
        """How far ahead of now, in microseconds, the arrival may lie when a call is made."""
        return (self.burst - 1) * self.interval

    @property
    def horizon(self) -> int:
        """How far ahead, in microseconds, calls can bring the arrival at all."""
        return self.tolerance + MAX_BATCH * self.interval

    def spend(self, arrival: int, now: int, cost: int) -> tuple[int, int]:
        """Make a call that counts `cost` calls, if one may be made.

        Room for one call is enough, whatever the cost: later calls wait for what it takes beyond
        the burst. So a batch is never too large, and small calls do not starve it.

        Args:
            arrival: what was stored; 0 when nothing was.
            now: the time.
            cost: how many calls it counts, `MAX_BATCH` at most.

        Returns:
            The arrival to store, and how many microseconds to wait: 0 when the call was made.
        """
        # An arrival that has passed: the bucket is full. An arrival beyond the horizon: the clock
        # was set back since. The bucket starts full, or the caller would be locked out for as long.
        if not now <= arrival <= now + self.horizon:
            arrival = now
        wait = arrival - self.tolerance - now
        if wait > 0:
            return arrival, wait
        return arrival + cost * self.interval, 0
