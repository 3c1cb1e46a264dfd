from datetime import UTC, datetime, timedelta


class ManualClock:
    """Stands still until it is moved."""

    def __init__(self, now: datetime = datetime(2026, 1, 1, 12, 0, 5, tzinfo=UTC)) -> None:
        self._now = now
        self._monotonic = 1000.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, *, seconds: float = 0, minutes: float = 0) -> None:
        """Let time pass."""
        step = timedelta(seconds=seconds, minutes=minutes)
        self._now += step
        self._monotonic += step.total_seconds()

    def set(self, now: datetime) -> None:
        """Set the clock as an administrator would: the monotonic one does not notice."""
        self._now = now
