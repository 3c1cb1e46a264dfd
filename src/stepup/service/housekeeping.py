"""Forgets what has expired, so that tables do not grow without bound."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from stepup.service.ports import Database

INTERVAL_SECONDS = 60.0
CHANGES_KEPT = timedelta(hours=3)
"""Longer than elevations live, by more than clocks are ever set: a worker that starts reads all."""


@dataclass(frozen=True, slots=True)
class Housekeeping:
    """Runs once a minute in every worker; twice at once does no harm."""

    database: Database

    async def __call__(self, now: datetime) -> None:
        """Remove expired wizards, used receipts that nobody can present, and old changes.

        Raises:
            StoreUnavailableError: next minute will do.
        """
        async with self.database.transaction() as records:
            await records.pending.purge(now)
            await records.redemptions.purge(now)
            await records.changes.purge(now - CHANGES_KEPT)
