"""The server's clock."""

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """The server's clock. The pipeline reads it once per call, at receipt (S1)."""

    def now(self) -> datetime:
        """Return the time, UTC and aware, to the microsecond. The clock may be set back."""
        ...

    def monotonic(self) -> float:
        """Return seconds since some instant, which never go back: for ages of values in memory."""
        ...
