"""What a worker keeps in memory so that a check reads no SQL: policies and recent revocations.

A worker polls the change feed every second. Numbers in the feed can become visible out of order, so
each poll reads again what became visible in the last two minutes, and applying a change twice does
no harm. What was last polled more than five seconds ago is not decided on (S17).
"""

from collections import deque
from datetime import datetime
from itertools import islice
from typing import Final

from prometheus_client import Gauge

from stepup.domain.actor import SessionHash, TenantId, UserId
from stepup.domain.changes import (
    Change,
    EnrollmentEnded,
    PolicyChanged,
    SessionRevoked,
    UserRevoked,
)
from stepup.domain.elevation import CLOCK_TOLERANCE, LIFETIME, Revocations
from stepup.domain.errors import StoreUnavailableError
from stepup.domain.policy import Policy
from stepup.service.ports import Clock, Database

POLL_SECONDS: Final = 1.0
MAX_AGE_SECONDS: Final = 5.0
LOOK_BACK_SECONDS: Final = 120.0
"""Longer than any transaction can take to commit."""
REMEMBER_SECONDS: Final = (LIFETIME + 2 * CLOCK_TOLERANCE).total_seconds()
"""By then whatever a revocation voids has expired anyway."""
MAX_POLICIES: Final = 100_000
"""0.6 kB each, as most tenants select the same operations; further ones take the place of those
that were read first."""

_polled = Gauge(
    "stepup_change_feed_read_seconds",
    "When the change feed was last read, in seconds since 1970; 5 s later nothing is decided.",
    multiprocess_mode="livemin",
)


class Snapshots:
    """One worker's memory of policies and revocations, never older than five seconds."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._polled_at: float | None = None
        # When each poll began, and the highest number it had seen.
        self._polls: deque[tuple[float, int]] = deque([(float("-inf"), 0)])
        self._policies: dict[TenantId, Policy] = {}
        self._users: dict[tuple[TenantId, UserId], datetime] = {}
        self._sessions: dict[SessionHash, datetime] = {}
        self._ended: dict[str, float] = {}
        self._remembered: deque[tuple[float, UserRevoked | SessionRevoked | EnrollmentEnded]]
        self._remembered = deque()
        self._seen: dict[int, Change] = {}
        self._revocations = Revocations(self._users, self._sessions, self._ended.keys())

    async def policy(self, tenant_id: TenantId) -> Policy:
        """The tenant's policy, at most a poll older than the stored one.

        Raises:
            StoreUnavailableError: the last poll is too long ago, or a first read fails.
        """
        self._demand_fresh()
        policy = self._policies.get(tenant_id)
        if policy is None:
            async with self._database.snapshot() as records:
                policy = await records.policies.find(tenant_id) or Policy(tenant_id)
            if len(self._policies) >= MAX_POLICIES:
                for oldest in list(islice(self._policies, MAX_POLICIES // 10)):
                    del self._policies[oldest]
            # By its own id, which it keeps anyway, instead of the call's.
            self._policies[policy.tenant_id] = policy
        return policy

    def revocations(self) -> Revocations:
        """What ended elevations lately.

        Raises:
            StoreUnavailableError: the last poll is too long ago.
        """
        self._demand_fresh()
        return self._revocations

    @property
    def is_fresh(self) -> bool:
        """Whether decisions can be made."""
        return (
            self._polled_at is not None
            and self._clock.monotonic() - self._polled_at <= MAX_AGE_SECONDS
        )

    async def poll(self) -> None:
        """Read the change feed once.

        Raises:
            StoreUnavailableError: it cannot be read; what is known gets older.
        """
        # The age counts from before the read: what commits during it may be missed.
        began = self._clock.monotonic()
        async with self._database.snapshot() as records:
            changes = await records.changes.read(after=self._polls[0][1])
        for number, change in changes:
            # A database that failed over may have lost changes, and gives their numbers to others.
            if isinstance(change, PolicyChanged) or self._seen.get(number) != change:
                self.apply(change)
            self._seen[number] = change
        self._polls.append((began, changes[-1][0] if changes else self._polls[-1][1]))
        # The next poll starts from one that lies two minutes before this one, not before itself:
        # a worker that was suspended in between looks back just as far.
        while self._polls[1][0] <= began - LOOK_BACK_SECONDS:
            self._polls.popleft()
        self._polled_at = began
        _polled.set(self._clock.now().timestamp())
        self._forget(began)

    def apply(self, change: Change) -> None:
        """Take a change in; a worker does so with its own at once."""
        match change:
            case PolicyChanged(tenant_id, version):
                known = self._policies.get(tenant_id)
                if known is not None and known.version < version:
                    del self._policies[tenant_id]
                return
            case UserRevoked(tenant_id, user_id, through):
                user = (tenant_id, user_id)
                self._users[user] = max(through, self._users.get(user, through))
            case SessionRevoked(_, _, session_hash, through):
                self._sessions[session_hash] = max(
                    through, self._sessions.get(session_hash, through)
                )
            case ended:
                self._ended[ended.enrollment_id] = self._clock.monotonic()
        self._remembered.append((self._clock.monotonic(), change))

    def _demand_fresh(self) -> None:
        if not self.is_fresh:
            raise StoreUnavailableError("what is known of policies and revocations is too old")

    def _forget(self, now: float) -> None:
        while self._remembered and self._remembered[0][0] < now - REMEMBER_SECONDS:
            _, change = self._remembered.popleft()
            match change:
                case UserRevoked(tenant_id, user_id, through):
                    if self._users.get((tenant_id, user_id)) == through:
                        del self._users[tenant_id, user_id]
                case SessionRevoked(_, _, session_hash, through):
                    if self._sessions.get(session_hash) == through:
                        del self._sessions[session_hash]
                case ended:
                    self._ended.pop(ended.enrollment_id, None)
        floor = self._polls[0][1]
        self._seen = {number: change for number, change in self._seen.items() if number > floor}
