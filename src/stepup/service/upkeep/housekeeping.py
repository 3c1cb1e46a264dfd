"""Deletes expired rows, so that tables do not grow without bound."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from stepup.domain.elevation import LIFETIME
from stepup.domain.receipts import RETRY_WINDOW
from stepup.service.ports import Database, Records

INTERVAL_SECONDS = 60.0
CHALLENGE_VALIDITY = timedelta(minutes=60)
"""The longest time for which an approved challenge can be used (S19)."""
CLOCK_CHANGES = timedelta(hours=2)
"""A clock may be set by an hour, forward and back again; revocations are kept that much longer."""


def retention_of_changes(retry_window: timedelta) -> timedelta:
    """How long the change feed keeps a revocation: longer than all that it voids is valid (S10)."""
    return max(LIFETIME, retry_window, CHALLENGE_VALIDITY) + CLOCK_CHANGES


PORTION = 1000
"""How many rows one transaction deletes; on SQLite, other writes wait for its end."""


@dataclass(frozen=True, slots=True)
class Housekeeping:
    """Runs once a minute in every worker; parallel runs do no harm."""

    database: Database
    retry_window: timedelta = RETRY_WINDOW

    async def __call__(self, now: datetime) -> None:
        """Delete expired wizards, records of expired receipts, and old changes.

        Raises:
            StoreUnavailableError: the next run deletes the rest.
        """
        kept_since = now - retention_of_changes(self.retry_window)
        for purge in (
            lambda records: records.pending.purge(now, PORTION),
            lambda records: records.redemptions.purge(now, PORTION),
            lambda records: records.changes.purge(kept_since, PORTION),
        ):
            await self._in_portions(purge)

    async def _in_portions(self, purge: Callable[[Records], Awaitable[int]]) -> None:
        removed = PORTION
        while removed == PORTION:
            async with self.database.transaction() as records:
                removed = await purge(records)
