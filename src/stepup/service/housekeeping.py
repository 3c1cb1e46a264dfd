"""Forgets what has expired, so that tables do not grow without bound."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from stepup.domain.elevation import LIFETIME
from stepup.domain.receipts import RETRY_WINDOW
from stepup.service.ports import Database

INTERVAL_SECONDS = 60.0
CHALLENGE_VALIDITY = timedelta(minutes=60)
"""The longest time for which an approved challenge can be used (S19)."""
CLOCK_CHANGES = timedelta(hours=2)
"""Clocks are set by up to an hour, forward and back again, and revocations must outlast that."""


def retention_of_changes(retry_window: timedelta) -> timedelta:
    """How long the change feed keeps a revocation: longer than anything that it voids (S10)."""
    return max(LIFETIME, retry_window, CHALLENGE_VALIDITY) + CLOCK_CHANGES


@dataclass(frozen=True, slots=True)
class Housekeeping:
    """Runs once a minute in every worker; twice at once does no harm."""

    database: Database
    retry_window: timedelta = RETRY_WINDOW

    async def __call__(self, now: datetime) -> None:
        """Remove expired wizards, used receipts that nobody can present, and old changes.

        Raises:
            StoreUnavailableError: next minute will do.
        """
        async with self.database.transaction() as records:
            await records.pending.purge(now)
            await records.redemptions.purge(now)
            await records.changes.purge(now - retention_of_changes(self.retry_window))
