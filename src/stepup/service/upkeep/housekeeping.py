"""Deletes expired rows, so that tables stay small, and puts expired challenges on record."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from stepup.domain.actor import TenantId
from stepup.domain.audit import Event, EventKind, written
from stepup.domain.challenge import LONGEST_VALID, MAX_ITEMS, Challenge, ChallengeState
from stepup.domain.elevation import LIFETIME
from stepup.domain.person import ENDED_RECENTLY
from stepup.domain.portal import LIFETIME as PORTAL_LIFETIME
from stepup.domain.receipts import RETRY_WINDOW
from stepup.service.challenges.tallies import count_challenge, set_pending_challenges
from stepup.service.people.break_glass import show_last_break_glass
from stepup.service.ports import Database, Records

INTERVAL_SECONDS = 60.0
CLOCK_CHANGES = timedelta(hours=2)
"""A clock may be set by an hour, forward and back again; revocations are kept that much longer."""

ASKED_KEPT = timedelta(days=90)
"""How long a person is on record who was asked, has no authenticator, and is not asked again."""


def retention_of_changes(retry_window: timedelta) -> timedelta:
    """How long the change feed keeps a revocation: longer than all that it voids is valid (S10).

    Portal sessions are judged by the change feed alone (S20), and live as long as the rest.
    """
    return max(LIFETIME, retry_window, LONGEST_VALID, PORTAL_LIFETIME) + CLOCK_CHANGES


RETENTION_OF_CLIENTS = timedelta(days=90)
PORTION = 1000
"""How many rows one transaction deletes; on SQLite, other writes wait for its end."""
PORTION_OF_CHALLENGES = PORTION // MAX_ITEMS
"""The number of challenges in one transaction: each challenge has up to 100 rows of items."""


@dataclass(frozen=True, slots=True)
class Housekeeping:
    """Runs once a minute in every worker; parallel runs do no harm."""

    database: Database
    retry_window: timedelta = RETRY_WINDOW
    retention_of_clients: timedelta = RETENTION_OF_CLIENTS

    async def __call__(self, now: datetime) -> None:
        """Record expired challenges; delete old rows of every kind that has an end.

        Then count the challenges that are still pending, and read when `stepup break-glass` was
        last used.

        Raises:
            StoreUnavailableError: the next run deletes the rest.
        """
        await self._record_expired_challenges(now)
        kept_since = now - retention_of_changes(self.retry_window)
        await self._in_portions(lambda records: records.pending.purge(now, PORTION))
        await self._in_portions(lambda records: records.redemptions.purge(now, PORTION))
        await self._in_portions(
            lambda records: records.challenges.purge(now, PORTION_OF_CHALLENGES),
            PORTION_OF_CHALLENGES,
        )
        await self._in_portions(lambda records: records.changes.purge(kept_since, PORTION))
        events_since = now - self.retention_of_clients
        await self._in_portions(lambda records: records.clients.purge(events_since, PORTION))
        await self._in_portions(lambda records: records.asked.purge(now - ASKED_KEPT, PORTION))
        ended_before = now - ENDED_RECENTLY
        await self._in_portions(lambda records: records.past.purge(now, ended_before, PORTION))
        async with self.database.snapshot() as records:
            set_pending_challenges(await records.challenges.count_all_pending(now))
            show_last_break_glass(await records.past.last_break_glass())

    async def _record_expired_challenges(self, now: datetime) -> None:
        """Record the end of every challenge that nobody answered in time.

        Each challenge has a transaction of its own, so that other calls wait only for one.
        """
        found = PORTION
        while found == PORTION:
            async with self.database.snapshot() as records:
                expired = await records.challenges.expired(now, PORTION)
            for tenant_id, challenge_id in expired:
                async with self.database.transaction(tenant_id) as records:
                    recorded = await _record_expiry(records, tenant_id, challenge_id, now)
                if recorded is not None:
                    count_challenge(recorded)
            found = len(expired)

    async def _in_portions(
        self, purge: Callable[[Records], Awaitable[int]], portion: int = PORTION
    ) -> None:
        removed = portion
        while removed == portion:
            async with self.database.transaction() as records:
                removed = await purge(records)


async def _record_expiry(
    records: Records, tenant_id: TenantId, challenge_id: UUID, now: datetime
) -> Challenge | None:
    """Record the expiry of a challenge; None if another call has recorded an end before."""
    found = await records.challenges.find_for_update(tenant_id, challenge_id)
    if found is None or found.stored_state is not ChallengeState.PENDING:
        return None
    expired = found.expired(now)
    await records.challenges.save(expired)
    await records.audit.append(
        Event(
            tenant_id=tenant_id,
            kind=EventKind.CHALLENGE_EXPIRED,
            occurred_at=now,
            caller=found.caller,
            actor_user_id=found.user_id,
            subject_user_id=found.user_id,
            details={
                "session": found.session_hash,
                "challenge_id": str(challenge_id),
                "expires_at": written(found.expires_at),
            },
        )
    )
    return expired
