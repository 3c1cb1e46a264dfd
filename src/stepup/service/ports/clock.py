"""The server's clock."""

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """The server's clock. The pipeline reads it once per call, at receipt (S1)."""

    def now(self) -> datetime:
        """The time, UTC and aware, to the microsecond. It may be set, back as well."""
        ...

    def monotonic(self) -> float:
        """Seconds since some instant; never set, never backwards. For ages of what is in memory."""
        ...
